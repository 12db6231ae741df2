// Growth on paper: what the work of one process on this machine, and a network of given latency and bandwidth, give for 1 to
// 1,024 processes that train with gradients of 32, 8, 4, 2 or 1 bits. bench/scaling.hpp is the model.
//
//     scaling_model [--latency SECONDS --bandwidth BYTES_PER_SECOND] [--batch ROWS] [--csv FILE] [--picture FILE.svg]
//         measures a step, rounding and packing here, a minute, and computes the rest; without a network three assumed ones
//     mpirun -np 2 scaling_model --check
//     mpirun -np 2 --mca btl tcp,self scaling_model --check
//         fits latency and bandwidth to sums of int32 between these processes, and compares what the model then says of sums of
//         codes, and of steps, with what they take
//
// Times are medians of turns in which all that is measured alternates: of work, those of the thread alone. Of exchanges the fastest
// are told as well, since a process that waits for a core keeps the others waiting.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <functional>
#include <list>
#include <string>
#include <thread>
#include <vector>
#include <zipml/distributed/together.hpp>
#include <zipml/zipml.hpp>

#include "gnuplot.hpp"
#include "program.hpp"
#include "scaling.hpp"
#include "synthetic_store.hpp"

namespace {

using namespace zipml;
using bench::Growth;
using bench::Network;
using bench::Work;
using Clock = std::chrono::steady_clock;

struct Options {
  double latency = -1.0;
  double bandwidth = -1.0;
  double overhead = -1.0;
  Index batch = 8192;
  Index local_batch = 256;
  std::vector<Index> columns{1'000, 100'000, 10'000'000};
  Index memory = 160;
  int turns = 7;
  std::string csv;
  std::string picture;
  std::string drawn = "strong";
  bool check = false;

  Index rows(Growth scaling) const { return scaling == Growth::strong ? batch : local_batch; }
};

constexpr int most_processes = 1024;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

std::string with_commas(Index n) {
  std::string text = std::to_string(n);
  for (auto at = static_cast<int>(text.size()) - 3; at > 0; at -= 3)
    text.insert(static_cast<std::size_t>(at), ",");
  return text;
}

std::string name_of(int bits) { return std::to_string(bits) + (bits == 1 ? " bit" : " bits"); }
std::string name_of(Growth scaling) { return scaling == Growth::strong ? "strong" : "weak"; }

/// Of this thread's own work: what others do on its core is not in it.
double work_seconds() {
#ifdef CLOCK_THREAD_CPUTIME_ID
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
#else
  return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
#endif
}

/// Seconds of work of one call each, all functions in turns. A short one is called until a millisecond has passed.
std::vector<double> measure(const std::vector<std::function<void()>>& all, int turns) {
  std::vector<int> calls;
  for (const auto& f : all) {
    f();
    const double start = work_seconds();
    f();
    calls.push_back(static_cast<int>(std::clamp(1e-3 / (work_seconds() - start + 1e-9), 1.0, 1e5)));
  }
  std::vector<std::vector<double>> seconds(all.size());
  for (int turn = 0; turn < turns; ++turn)
    for (std::size_t k = 0; k < all.size(); ++k) {
      const double start = work_seconds();
      for (int i = 0; i < calls[k]; ++i) all[k]();
      seconds[k].push_back((work_seconds() - start) / calls[k]);
    }
  std::vector<double> result;
  for (auto& values : seconds) result.push_back(median(std::move(values)));
  return result;
}

Buffer<float> random_values(Index n) {
  Buffer<float> values(n);
  std::uint64_t state = 42;
  for (float& v : values) v = static_cast<float>(bench::next_word(state) >> 40) / 8388608.0f - 1.0f;
  return values;
}

/// Random codes of 4 bits with levels over [-2, 2], of labels 0.
class Samples {
 public:
  Samples(Index rows, Index cols)
      : codes_(PlaneLayout{rows, cols, 4}.bytes()),
        offset_(padded(cols)),
        step_(padded(cols)),
        targets_(rows) {
    std::uint64_t state = 1234567;
    for (std::uint8_t& code : codes_) code = static_cast<std::uint8_t>(bench::next_word(state) >> 16);
    std::fill_n(offset_.data(), cols, -2.0f);
    std::fill_n(step_.data(), cols, 4.0f / 15.0f);
    view_.rows = rows;
    view_.cols = cols;
    view_.bits = 4;
    view_.stored_bits = 4.0;
    view_.codes_bytes = view_.store_bytes = static_cast<Index>(codes_.bytes());
    view_.codes = codes_.data();
    view_.layout = {rows, cols, 4};
    view_.levels.offset = offset_.data();
    view_.levels.step = step_.data();
  }
  const SampleView& view() const { return view_; }
  const MappedTargets& targets() const { return targets_; }

 private:
  Buffer<std::uint8_t> codes_;
  Buffer<float> offset_, step_;
  MappedTargets targets_;
  SampleView view_;
};

/// Steps of the library's own training, one batch behind the other.
class Trainer {
 public:
  Trainer(const Samples& samples, int gradient_bits, Reducer* reducer)
      : rows_(samples.view().rows),
        x_(random_values(padded(samples.view().cols))),
        device_(kernels_of(active_isa()), samples.view(), samples.targets(),
                {.channels = {.model = {8}, .gradient = {gradient_bits}}, .seed = 1, .reducer = reducer}) {
    std::fill(x_.begin() + samples.view().cols, x_.end(), 0.0f);
  }

  void step(Index batch) {
    if (next_ + batch > rows_) next_ = 0;
    const Index first = next_;
    next_ += batch;
    const Index after = next_ + batch > rows_ ? 0 : next_;
    device_.announce(after, batch);
    device_.begin_batch(first, batch, x_.data(), 0.0f, count_++);
    while (device_.next_pass()) device_.add_pass(naive, SquaredLoss{});
    device_.descend(0, 1e-20f, x_.data());  // the model stays, and is rounded anew
  }

 private:
  Index rows_;
  Index next_ = 0;
  std::uint64_t count_ = 0;
  Buffer<float> x_;
  GradientDevice device_;
};

/// Rounding, packing and adding up a vector of d entries.
void measure_codes(Index d, int turns, Work& work) {
  const KernelTable kernels = kernels_of(active_isa());
  const Index padded_d = padded(d);
  const auto size = static_cast<std::size_t>(d);
  Buffer<float> v = random_values(padded_d), x(padded_d);
  std::fill(v.begin() + d, v.end(), 0.0f);
  Buffer<std::int32_t> total(padded_d), more(padded_d);
  Buffer<std::int8_t> codes(padded_d);
  Buffer<std::uint8_t> bytes(4 * padded_d);
  List<ChannelEncoder> encoders;
  for (const int bits : bench::widths)
    if (bits != 32) encoders.emplace_back(Channel{.bits = bits}, d, Random(1), Stream::gradient);

  std::vector<std::function<void()>> all;
  for (ChannelEncoder& encoder : encoders)
    all.emplace_back([&, row = std::uint64_t{0}]() mutable {
      (void)encoder.begin(kernels, v.data());
      const Message& message = encoder.finish(kernels, row++, v.data());
      for (Index j = 0; j < d; ++j) v[j] = message.scales[0] * static_cast<float>(message.codes[j]);
      (void)kernels.largest(v.data(), padded_d);
      kernels.descend_row(RowStep{v.data(), 1e-20f}, x.data(), padded_d);
    });
  const Wire wide{0, 1, 12};
  const auto add = [&](Index j, int code) { total[j] += code; };
  for (int bits = 0; bits <= 8; ++bits) {
    const Wire wire = bits == 0 ? wide : wire_of_codes(bits);
    if (bits == 0)
      all.emplace_back(
          [&, wire] { write_wire(wire, std::span<const std::int32_t>(more.data(), size), bytes.data()); });
    else
      all.emplace_back(
          [&, wire] { write_wire(wire, std::span<const std::int8_t>(codes.data(), size), bytes.data()); });
    all.emplace_back([&, wire] { read_wire(wire, bytes.data(), d, add); });
  }
  all.emplace_back([&] {
    for (Index j = 0; j < d; ++j) total[j] += more[j];
  });
  const std::vector<double> seconds = measure(all, turns);
  auto next = seconds.begin();
  for (const ChannelEncoder& encoder : encoders)
    work.codes[static_cast<std::size_t>(encoder.bits())].round = *next++;
  for (bench::CodeWork& of : work.codes) {
    of.write = *next++;
    of.read = *next++;
  }
  work.columns = d;
  work.add = *next++;
}

/// All the work of one process on d columns, of samples in so many MB of codes: out of cache, unless those are few.
Work measure_work(Index d, const Options& options) {
  Work work;
  measure_codes(d, options.turns, work);
  const Index rows =
      (std::max)(Index{32}, (options.memory << 20) * 2 / d / block_rows * block_rows);  // 4 bits a value
  const Samples samples((std::min)(rows, Index{1} << 22), d);
  const Index few = (std::min)(Index{64}, (std::min)(bench::pass_rows(d), rows / 4));
  const Index many = (std::min)((std::max)(bench::pass_rows(d), 8 * few), rows / group_rows * group_rows);
  Trainer trainer(samples, 32, nullptr);
  const std::vector<double> seconds =
      measure({[&] { trainer.step(few); }, [&] { trainer.step(many); }}, 2 * options.turns);
  work.row = (std::max)(0.0, (seconds[1] - seconds[0]) / static_cast<double>(many - few));
  work.step = (std::max)(0.0, seconds[0] - work.row * static_cast<double>(few));
  return work;
}

void print_work(const Work& work) {
  std::printf("d = %s: a step %.3g us and %.3g us a row; adding int32 %.3g us\n",
              with_commas(work.columns).c_str(), 1e6 * work.step, 1e6 * work.row, 1e6 * work.add);
  for (const int bits : bench::widths) {
    if (bits == 32) continue;
    const bench::CodeWork& codes = work.codes[static_cast<std::size_t>(bits)];
    std::printf("  %s: rounding %.3g us, packing %.3g us, unpacking %.3g us\n", name_of(bits).c_str(),
                1e6 * codes.round, 1e6 * codes.write, 1e6 * codes.read);
  }
  std::printf("  sums of more than 8 bits: packing %.3g us, unpacking %.3g us\n", 1e6 * work.codes[0].write,
              1e6 * work.codes[0].read);
}

std::vector<Network> networks_of(const Options& options) {
  if (options.latency >= 0.0) {
    char name[80];
    std::snprintf(name, sizeof name, "%.3g us, %.3g GB/s", 1e6 * options.latency, 1e-9 * options.bandwidth);
    return {{name, options.latency, 1.0 / options.bandwidth, options.overhead}};
  }
  return {{"1 Gbit/s Ethernet", 50e-6, 8e-9, options.overhead},
          {"10 Gbit/s Ethernet", 20e-6, 0.8e-9, options.overhead},
          {"100 Gbit/s InfiniBand", 2e-6, 0.08e-9, options.overhead}};
}

double speedup(const Network& network, int processes, const Work& work, int bits, Growth scaling,
               const Options& options) {
  return bench::speedup(network, processes, work, bits, scaling, options.rows(scaling));
}

void print_table(const Network& network, const Work& work, const Options& options) {
  std::printf("\n%s (%.3g us, %.3g GB/s), d = %s\n", network.name.c_str(), 1e6 * network.latency,
              1e-9 / network.seconds_per_byte, with_commas(work.columns).c_str());
  std::printf("          batch of %s rows           %s rows a process\n", with_commas(options.batch).c_str(),
              with_commas(options.local_batch).c_str());
  std::printf("bits  ");
  for (int k = 0; k < 2; ++k)
    for (int processes = 1; processes <= most_processes; processes *= 4)
      std::printf("%s%8s", k == 1 && processes == 1 ? "  |" : "", with_commas(processes).c_str());
  std::printf("\n");
  for (const int bits : bench::widths) {
    std::printf("%4d  ", bits);
    for (const Growth scaling : {Growth::strong, Growth::weak})
      for (int processes = 1; processes <= most_processes; processes *= 4)
        std::printf("%s%8.3g", scaling == Growth::weak && processes == 1 ? "  |" : "",
                    speedup(network, processes, work, bits, scaling, options));
    std::printf("\n");
  }
}

/// Where few bits gain at least 1.5 times over 32, on processes that are faster than one.
struct Verdict {
  double gain = 0.0;  // the largest
  int bits = 0, processes = 0;
  int fewest = 0, most = 0;           // processes that gain so much
  double low = INFINITY, high = 0.0;  // of the best of 8 to 1 bits, over numbers of processes
};

constexpr double worth_it = 1.5;

Verdict judge(const Network& network, const Work& work, Growth scaling, const Options& options) {
  Verdict verdict;
  for (int processes = 2; processes <= most_processes; processes *= 2) {
    const double exact = speedup(network, processes, work, 32, scaling, options);
    double best = 0.0;
    for (const int bits : bench::widths) {
      const double fast = speedup(network, processes, work, bits, scaling, options);
      const double gain = fast / exact;
      if (bits != 32) best = (std::max)(best, gain);
      if (bits == 32 || gain < worth_it || fast <= 1.0) continue;
      if (verdict.fewest == 0) verdict.fewest = processes;
      verdict.most = processes;
      if (gain > verdict.gain) {
        verdict.gain = gain;
        verdict.bits = bits;
        verdict.processes = processes;
      }
    }
    verdict.low = (std::min)(verdict.low, best);
    verdict.high = (std::max)(verdict.high, best);
  }
  return verdict;
}

void print_verdicts(const std::vector<Network>& networks, const std::vector<Work>& works,
                    const Options& options) {
  std::string pays, does_not;
  for (const Network& network : networks)
    for (const Growth scaling : {Growth::strong, Growth::weak}) {
      std::string columns;
      for (const Work& work : works) {
        const Verdict verdict = judge(network, work, scaling, options);
        const std::string d = "d = " + with_commas(work.columns);
        if (verdict.gain == 0.0) {
          char range[80];
          std::snprintf(range, sizeof range, " (%.2f to %.2f times)", verdict.low, verdict.high);
          columns += (columns.empty() ? "" : ", ") + d + range;
          continue;
        }
        char most[100];
        std::snprintf(most, sizeof most, "; most, %.1f times, with %s at ", verdict.gain,
                      name_of(verdict.bits).c_str());
        pays += "  " + network.name + ", " + name_of(scaling) + ", " + d + ": at " +
                with_commas(verdict.fewest) + " to " + with_commas(verdict.most) + " processes" + most +
                with_commas(verdict.processes) + "\n";
      }
      if (!columns.empty()) does_not += "  " + network.name + ", " + name_of(scaling) + ": " + columns + "\n";
    }
  std::printf(
      "\nFew bits pay, %.3g times the speed of 32 or more, on processes that are faster than one:\n%s"
      "They do not, or not on such processes; the best of 8 to 1 bits is as fast as 32:\n%s",
      worth_it, pays.empty() ? "  nowhere\n" : pays.c_str(),
      does_not.empty() ? "  nowhere\n" : does_not.c_str());
}

void write_csv(const std::string& path, const std::vector<Network>& networks, const std::vector<Work>& works,
               const Options& options) {
  std::FILE* const file = std::fopen(path.c_str(), "w");
  if (file == nullptr) throw Error(Place{path}, "cannot write", "a writable file", "none");
  std::fprintf(file,
               "network,latency,bandwidth,columns,scaling,batch,processes,bits,step_seconds,bytes,speedup\n");
  for (const Network& network : networks)
    for (const Work& work : works)
      for (const Growth scaling : {Growth::strong, Growth::weak})
        for (int processes = 1; processes <= most_processes; processes *= 2)
          for (const int bits : bench::widths) {
            const Index batch = options.rows(scaling) * (scaling == Growth::weak ? processes : 1);
            std::fprintf(file, "%s,%.6g,%.6g,%lld,%s,%lld,%d,%d,%.6g,%.6g,%.6g\n", network.name.c_str(),
                         network.latency, 1.0 / network.seconds_per_byte,
                         static_cast<long long>(work.columns), name_of(scaling).c_str(),
                         static_cast<long long>(batch), processes, bits,
                         bench::step_seconds(network, processes, work, bits, batch),
                         bench::meet(network, processes, work, bits, batch).bytes,
                         speedup(network, processes, work, bits, scaling, options));
          }
  const bool good = std::ferror(file) == 0;
  if (std::fclose(file) != 0 || !good) throw Error(Place{path}, "cannot write", "space", "none left");
}

/// A row of panels for each network, a panel for each number of columns, on the same axes. Curves have their names in one panel,
/// where few bits gain most: elsewhere they lie on each other.
void draw(const std::string& path, const std::vector<Network>& networks, const std::vector<Work>& works,
          const Options& options) {
  const Growth scaling = options.drawn == "strong" ? Growth::strong : Growth::weak;
  struct Style {
    int bits;
    const char* colour;
    int symbol;
    bool has_name = true;  // 2 and 4 bits lie between their neighbours
  };
  constexpr Style styles[] = {{1, colour::vermilion, 7},
                              {2, colour::purple, 13, false},
                              {4, colour::green, 11, false},
                              {8, colour::blue, 9},
                              {32, colour::black, 5}};
  constexpr double low = 0.25;  // slower than that is out of the picture
  double high = 4.0, most = 0.0;
  const Network* named_network = nullptr;
  const Work* named_work = nullptr;
  for (const Network& network : networks)
    for (const Work& work : works) {
      for (const int bits : bench::widths)
        for (int processes = 1; processes <= most_processes; processes *= 2)
          high = (std::max)(high, speedup(network, processes, work, bits, scaling, options));
      const double gain = speedup(network, most_processes, work, 1, scaling, options) /
                          speedup(network, most_processes, work, 32, scaling, options);
      if (gain <= most) continue;
      most = gain;
      named_network = &network;
      named_work = &work;
    }
  const double width = 330.0, height = 320.0;
  Gnuplot picture(path, static_cast<int>(width * static_cast<double>(works.size())) + 40,
                  static_cast<int>(height * static_cast<double>(networks.size()) + 30.0));
  std::fprintf(picture.stream(),
               "set multiplot\nset xtics ('1' 1, '4' 4, '16' 16, '64' 64, '256' 256, '1,024' 1024)\n"
               "set ytics ('1/4' 0.25, '1' 1, '4' 4, '16' 16, '64' 64, '256' 256, '1,024' 1024)\n");
  const std::string rows = scaling == Growth::strong
                               ? "processes, " + with_commas(options.batch) + " rows together"
                               : "processes, " + with_commas(options.local_batch) + " rows each";
  for (std::size_t n = 0; n < networks.size(); ++n)
    for (std::size_t w = 0; w < works.size(); ++w) {
      const double left = width * static_cast<double>(w);
      const double bottom = height * static_cast<double>(networks.size() - 1 - n) + 15.0;
      std::fprintf(picture.stream(), "set xlabel %s offset 0,0.3 tc rgb '%s'\n",
                   Gnuplot::quoted(n + 1 == networks.size() ? rows : "").c_str(), colour::grey);
      Chart chart(picture, {left + 55.0, bottom + 50.0, left + width - 15.0, bottom + height - 50.0},
                  {0.9, low, 1.3 * most_processes, 1.5 * high}, true);
      chart.head(networks[n].name, "speedup, d = " + with_commas(works[w].columns));
      chart.add({.name = "",
                 .colour = colour::grey,
                 .points = {{1.0, 1.0}, {most_processes, most_processes}},
                 .symbol = 0,
                 .dashed = true});
      const bool is_named = &networks[n] == named_network && &works[w] == named_work;
      for (const Style& style : styles) {
        Chart::Curve curve{.name = is_named && style.has_name ? name_of(style.bits) : "",
                           .colour = style.colour,
                           .points = {},
                           .symbol = style.symbol,
                           .dashed = false};
        for (int processes = 1; processes <= most_processes; processes *= 2)
          curve.points.push_back({static_cast<double>(processes),
                                  speedup(networks[n], processes, works[w], style.bits, scaling, options)});
        chart.add(std::move(curve));
      }
      chart.draw();
    }
  std::fprintf(picture.stream(), "unset multiplot\n");
  picture.finish();
}

void model(const Options& options) {
  const std::vector<Network> networks = networks_of(options);
  std::vector<Work> works;
  std::printf("One process here, samples of 4 bits, model of 8:\n");
  for (const Index d : options.columns) {
    works.push_back(measure_work(d, options));
    print_work(works.back());
  }
  if (options.latency < 0.0)
    std::printf(
        "\nLatencies and bandwidths are assumed, not measured: --latency and --bandwidth set them.\n");
  std::printf("Speedup: rows a second over those of one process, whose gradient is exact.\n");
  std::printf("Exact gradients of integers meet in each pass over the codes:\n");
  for (const Index d : options.columns)
    if (bench::has_integers(d))
      std::printf("  d = %s: %s rows, for at most %s processes at once\n", with_commas(d).c_str(),
                  with_commas(bench::pass_rows(d)).c_str(),
                  with_commas(bench::pass_rows(d) / group_rows).c_str());
  for (const Network& network : networks)
    for (const Work& work : works) print_table(network, work, options);
  print_verdicts(networks, works, options);
  if (!options.csv.empty()) write_csv(options.csv, networks, works, options);
  if (!options.picture.empty()) draw(options.picture, networks, works, options);
}

/// What processes of this machine take for exchanges, beside the model.
class Check {
 public:
  Check(MpiReducer& reducer, const Options& options)
      : reducer_(reducer), options_(options), processes_(reducer.workers()) {
    // Work that waits for a core takes so much longer.
    const unsigned cores = (std::max)(1u, std::thread::hardware_concurrency());
    crowd_ = (std::max)(1.0, static_cast<double>(processes_) / cores);
  }

  void run() {
    const std::vector<Index>& columns = options_.columns;
    std::vector<Work> works(columns.size());
    const Index widest = *std::max_element(columns.begin(), columns.end());
    std::vector<Work> sums;  // of int32, by which the network is fitted
    for (Index d = 1; d <= widest; d *= 10) sums.emplace_back().columns = d;
    alone([&] {
      for (std::size_t k = 0; k < columns.size(); ++k)
        works[k] = trains(columns[k]) ? measure_work(columns[k], options_)
                                      : measure_code_work(columns[k], options_.turns);
      for (Work& sum : sums) sum = measure_code_work(sum.columns, 1);
    });

    Buffer<std::int32_t> total(widest);
    const Buffer<std::int8_t> codes(widest);
    std::vector<std::function<void()>> all;
    for (const Work& sum : sums)
      all.emplace_back([&, n = static_cast<std::size_t>(sum.columns)] {
        reducer_.sum(std::span<std::int32_t>(total.data(), n));
      });
    for (const Index d : columns)
      for (const int bits : bench::widths)
        if (bits != 32)
          all.emplace_back([&, bits, n = static_cast<std::size_t>(d)] {
            reducer_.sum_codes({codes.data(), n}, bits, {total.data(), n});
          });
    const Index batch = options_.local_batch * processes_;
    std::list<Samples> samples;
    std::list<Trainer> trainers;
    for (const Index d : columns)
      if (trains(d)) {
        samples.emplace_back(4 * batch, d);
        for (const int bits : bench::widths) {
          trainers.emplace_back(samples.back(), bits, &reducer_);
          all.emplace_back([&trainer = trainers.back(), batch] { trainer.step(batch); });
        }
      }
    const std::vector<Times> times = together_times(all);
    if (reducer_.rank() != 0) return;
    fit(sums, times);
    std::printf(
        "%d processes: latency %.3g us, bandwidth %.3g GB/s, fitted to the fastest sums of int32; local work "
        "times %.3g\n",
        processes_, 1e6 * network_.latency, 1e-9 / network_.seconds_per_byte, crowd_);
    std::printf("%-18s %10s %12s %12s %12s   %s\n", "us", "d", "predicted", "fastest", "median",
                "fastest, median / predicted");
    auto next = times.begin();
    for (const Work& sum : sums)
      print("sum of int32", sum.columns, *next++, predicted(bench::sum_integers(network_, processes_, sum)));
    for (const Work& work : works)
      for (const int bits : bench::widths)
        if (bits != 32)
          print("codes of " + name_of(bits), work.columns, *next++,
                predicted(bench::sum_codes(network_, processes_, work, bits)));
    for (const Work& work : works)
      for (const int bits : bench::widths)
        if (trains(work.columns)) {
          // Processes have rows at the same time or, where passes have few rows, only one of them.
          const double rows =
              (std::max)(static_cast<double>(bench::busiest_rows(work.columns, batch, processes_, bits)),
                         static_cast<double>(batch) * crowd_ / processes_);
          const double alone = crowd_ * work.step + rows * work.row;
          print("step, " + name_of(bits), work.columns, *next++,
                alone + predicted(bench::meet(network_, processes_, work, bits, batch)));
        }
    std::fflush(stdout);
  }

 private:
  struct Times {
    double fastest = 0.0;
    double median = 0.0;
  };

  /// Steps are compared where stores of all processes together are small.
  bool trains(Index d) const { return options_.local_batch * processes_ * d <= Index{1} << 28; }
  static Work measure_code_work(Index d, int turns) {
    Work work;
    measure_codes(d, turns, work);
    return work;
  }

  /// f() on the first process, while the others sleep.
  template <class F>
  void alone(const F& f) {
    if (reducer_.rank() == 0) f();
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_Ibarrier(reducer_.communicator().get(), &request);
    for (int done = 0; done == 0;) {
      MPI_Test(&request, &done, MPI_STATUS_IGNORE);
      if (done == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  /// Of each call on the process that it takes longest: one that comes late finds the work of others done. All functions in turns.
  std::vector<Times> together_times(const std::vector<std::function<void()>>& all) {
    std::vector<std::vector<float>> seconds(all.size());
    std::vector<int> calls;
    for (int turn = -1; turn < options_.turns; ++turn)
      for (std::size_t k = 0; k < all.size(); ++k) {
        (void)reducer_.Reducer::largest(0.0f);
        const int times = turn < 0 ? 2 : calls[k];
        double took = 0.0;
        for (int i = 0; i < times; ++i) {
          const auto start = Clock::now();
          all[k]();
          took = seconds_since(start);
          if (turn >= 0) seconds[k].push_back(static_cast<float>(took));
        }
        if (turn < 0)
          calls.push_back(static_cast<int>(
              reducer_.Reducer::largest(static_cast<float>(std::clamp(2e-2 / took, 2.0, 200.0)))));
      }
    std::vector<Times> result;
    for (auto& of_calls : seconds) {
      reducer_.largest(std::span<float>(of_calls));
      const std::vector<double> values(of_calls.begin(), of_calls.end());
      result.push_back({*std::min_element(values.begin(), values.end()), median(values)});
    }
    return result;
  }

  /// Latency and bandwidth that make the squares of the logarithms of fastest / predicted smallest over the sums, in steps of 2 %.
  void fit(const std::vector<Work>& sums, const std::vector<Times>& times) {
    double least = INFINITY;
    for (double latency = 1e-7; latency < 1e-2; latency *= 1.02)
      for (double per_byte = 1e-12; per_byte < 1e-6; per_byte *= 1.02) {
        const Network network{"here", latency, per_byte};
        double squares = 0.0;
        for (std::size_t k = 0; k < sums.size() && squares < least; ++k) {
          const double error =
              std::log(times[k].fastest / predicted(bench::sum_integers(network, processes_, sums[k])));
          squares += error * error;
        }
        if (squares >= least) continue;
        least = squares;
        network_ = network;
      }
  }

  static void print(const std::string& what, Index d, const Times& times, double predicted) {
    std::printf("%-18s %10s %12.4g %12.4g %12.4g   %.2f, %.2f\n", what.c_str(), with_commas(d).c_str(),
                1e6 * predicted, 1e6 * times.fastest, 1e6 * times.median, times.fastest / predicted,
                times.median / predicted);
  }
  double predicted(const bench::Cost& cost) const { return cost.wire + crowd_ * cost.work; }

  MpiReducer& reducer_;
  const Options& options_;
  int processes_;
  double crowd_ = 1.0;
  Network network_;
};

void check(const Options& options) {
  MpiReducer reducer(MPI_COMM_WORLD, {.timeout = 120.0});
  if (reducer.workers() == 1)
    throw Error("--check compares processes", "mpirun -np 2 scaling_model --check", "one process");
  Check(reducer, options).run();
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{"Speedup of training on 1 to 1,024 processes with gradients of few bits, by a model."};
  app.set_version_flag("--version", std::string("scaling_model (zipml ") + ZIPML_VERSION + ")");
  app.option_defaults()->always_capture_default();
  const CLI::Range positive(1e-15, 1e15);
  auto* const latency = app.add_option("--latency", options.latency, "seconds of a message of no bytes")
                            ->check(CLI::Range(0.0, 1e3))
                            ->default_str("three networks");
  auto* const bandwidth = app.add_option("--bandwidth", options.bandwidth, "bytes a second of a process")
                              ->check(positive)
                              ->default_str("three networks");
  latency->needs(bandwidth);
  bandwidth->needs(latency);
  app.add_option("--overhead", options.overhead,
                 "seconds of each further message of an all-to-all exchange, all of them sent at once")
      ->check(CLI::Range(0.0, 1e3))
      ->default_str("the latency");
  app.add_option("--batch", options.batch, "rows of a batch that processes share: strong scaling")
      ->check(CLI::Range(Index{1}, Index{1} << 30));
  app.add_option("--local-batch", options.local_batch, "rows of a batch for each process: weak scaling")
      ->check(CLI::Range(Index{1}, Index{1} << 20));
  app.add_option("--columns", options.columns, "of the samples")
      ->check(CLI::Range(Index{1}, Index{100'000'000}));
  app.add_option("--memory", options.memory, "MB of codes to measure steps on")
      ->check(CLI::Range(1, 1 << 16));
  app.add_option("--turns", options.turns, "turns of a measurement")->check(CLI::Range(1, 1000));
  app.add_option("--csv", options.csv, "write all speedups to this file");
  app.add_option("--picture", options.picture, "draw them to this SVG file, with gnuplot");
  app.add_option("--scaling", options.drawn, "of the picture")->check(CLI::IsMember({"weak", "strong"}));
  app.add_flag("--check", options.check, "compare the model with what the processes of mpirun take");
  int failed = 0;
  const int code = run_program("scaling_model", app, argc, argv, [&] {
    if (!options.check) return model(options);
    const MpiSession session(nullptr, nullptr);
    failed = run_together("scaling_model", MPI_COMM_WORLD, [&] { check(options); });
  });
  return code != 0 ? code : failed;
}
