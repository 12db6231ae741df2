// The model of bench/scaling_model: its arithmetic, and that it counts what training exchanges.

#include "scaling.hpp"

#include <cmath>
#include <vector>
#include <zipml/zipml.hpp>

#include "catch.hpp"
#include "synthetic_store.hpp"

using namespace zipml;
using bench::Growth;
using bench::Network;
using bench::Work;

namespace {

const Network ethernet{"Ethernet", 50e-6, 8e-9};
const Network no_time{"no time", 0.0, 0.0, 0.0};

Work work_of(Index d) {
  Work work{.columns = d, .step = 1e-9 * static_cast<double>(d), .row = 3e-11 * static_cast<double>(d)};
  work.add = 1e-10 * static_cast<double>(d);
  for (bench::CodeWork& codes : work.codes)
    codes = {5e-10 * static_cast<double>(d), 4e-10 * static_cast<double>(d), 9e-10 * static_cast<double>(d)};
  return work;
}
Work free_exchange(Index d) {
  Work work = work_of(d);
  work.add = 0.0;
  work.codes = {};
  return work;
}

/// Counts bytes as Exchanged does; what it is given it returns.
class CountingReducer final : public Reducer {
 public:
  explicit CountingReducer(int workers) : workers_(workers) {}
  double bytes() const { return bytes_; }

  int workers() const override { return workers_; }
  int rank() const override { return 0; }
  using Collective::largest;
  void largest(std::span<float> mine) override { reduce(mine.size_bytes()); }
  void sum(std::span<std::int32_t> mine) override { reduce(mine.size_bytes()); }
  void sum(std::span<std::int64_t> mine) override { reduce(mine.size_bytes()); }
  void sum(std::span<float> mine) override { reduce(mine.size_bytes()); }  // in parts, then the sums
  void sum(std::span<double> mine) override {
    bytes_ += (workers_ - 1) * static_cast<double>(mine.size_bytes());
  }
  void sum_codes(std::span<const std::int8_t> mine, int bits, std::span<std::int32_t> total) override {
    bytes_ += bytes_to_add_codes(static_cast<Index>(mine.size()), bits, workers_, CodeExchange::automatic);
    std::copy(mine.begin(), mine.end(), total.begin());
  }
  List<Message> gather(const Message&) override { throw Error("nothing is gathered"); }

 private:
  void reduce(std::size_t bytes) { bytes_ += 2.0 * (workers_ - 1) / workers_ * static_cast<double>(bytes); }

  int workers_;
  double bytes_ = 0.0;
};

}  // namespace

TEST_CASE("one process is as fast as one, and P are not faster than P") {
  for (const Index d : {1'000, 100'000})
    for (const Network& network : {ethernet, no_time})
      for (const Growth scaling : {Growth::strong, Growth::weak})
        for (const int bits : bench::widths) {
          INFO(d << " columns, " << network.name << ", " << bits << " bits");
          const Work work = work_of(d);
          CHECK(bench::speedup(network, 1, work, bits, scaling, 256) == 1.0);
          for (int processes = 2; processes <= 1024; processes *= 2) {
            const double speedup = bench::speedup(network, processes, work, bits, scaling, 256);
            CHECK(speedup > 0.0);
            CHECK(speedup <= processes);
          }
        }
}

TEST_CASE("where exchanges take no time, work alone scales") {
  const Work work = free_exchange(100'000);
  for (const int bits : bench::widths)
    for (const int processes : {2, 4, 64, 1024}) {
      const double strong = (work.step + 8192.0 * work.row) / (work.step + 8192.0 / processes * work.row);
      CHECK(bench::speedup(no_time, processes, work, bits, Growth::strong, 8192) == Approx(strong));
      CHECK(bench::speedup(no_time, processes, work, bits, Growth::weak, 256) == Approx(processes));
    }
}

TEST_CASE("bytes of codes are those of bytes_to_add_codes") {
  for (const Index d : {1'000, 100'000})
    for (int bits = 1; bits <= 8; ++bits)
      for (const int processes : {2, 3, 4, 5, 16, 1024}) {
        INFO(d << " columns, " << bits << " bits, " << processes << " processes");
        CHECK(bench::sum_codes(ethernet, processes, work_of(d), bits).bytes ==
              Approx(bytes_to_add_codes(d, bits, processes, CodeExchange::automatic)));
      }
}

TEST_CASE("collective operations take the rounds and bytes of the formulas") {
  const Network latency{"", 1.0, 0.0}, bytes{"", 0.0, 1.0};
  CHECK(bench::all_reduce(latency, 2, 8.0).wire == 1.0);
  CHECK(bench::all_reduce(latency, 5, 8.0).wire == 3.0);
  CHECK(bench::all_reduce(bytes, 4, 8.0).wire == 12.0);  // 2 x 3/4 x 8, of two rounds of 8: 16
  CHECK(bench::all_gather(latency, 1024, 8.0).wire == 10.0);
  CHECK(bench::all_gather(bytes, 4, 8.0).wire == 24.0);
  CHECK(bench::all_to_all(latency, 4, 8.0).wire == 3.0);
  CHECK(bench::all_to_all({"", 1.0, 0.0, 0.25}, 4, 8.0).wire == 1.5);
  CHECK(bench::all_to_all(bytes, 4, 8.0).wire == 6.0);
  CHECK(bench::all_to_all(ethernet, 1, 8.0).wire == 0.0);
}

TEST_CASE("the busiest process has whole groups of 8 rows, of the batch or of each pass") {
  for (const int bits : {32, 2}) {
    CHECK(bench::busiest_rows(1'000, 1000, 1, bits) == 1000);
    CHECK(bench::busiest_rows(1'000, 1024, 4, bits) == 256);
    CHECK(bench::busiest_rows(1'000, 20, 2, bits) == 12);
    CHECK(bench::busiest_rows(1'000, 1024, 1024, bits) == 8);
    CHECK(bench::busiest_rows(100'000, 4096, 256, bits) == 16);
  }
  CHECK(bench::pass_rows(1'000) == 1024);
  CHECK(bench::busiest_rows(1'000, 4096, 256, 32) == 32);  // 8 of each of four passes
  CHECK(bench::busiest_rows(1'000, 4096, 256, 8) == 16);
}

TEST_CASE("a step of training has the passes, and exchanges the bytes, of the model") {
  constexpr int processes = 4;
  for (const Index d : {1'024, 4'096, 40'960}) {
    const auto store = bench::packed<SeparateDraws<1>>(512, d, 4);
    const MappedTargets no_labels(512);
    Work work;
    work.columns = d;
    for (const int bits : bench::widths) {
      INFO(d << " columns, " << bits << " bits");
      CountingReducer reducer(processes);
      GradientDevice device(kernels_of(Isa::scalar), store.samples(), no_labels,
                            {.channels = {.model = {8}, .gradient = {bits}}, .seed = 1, .reducer = &reducer});
      Buffer<float> x(padded(d));
      std::fill_n(x.data(), d, 0.01f);
      device.begin_batch(0, 512, x.data(), 0.0f, 0);
      Index passes = 0, rows = 0;
      for (; device.next_pass(); ++passes) {
        rows += device.rows();
        device.add_pass(naive, SquaredLoss{});
      }
      (void)device.descend(0, 0.01f, x.data());
      const Index together = bench::meets_in_passes(d, bits) ? 512 : 512 / processes;
      CHECK(passes == (together + bench::pass_rows(d) - 1) / bench::pass_rows(d));
      CHECK(rows == bench::busiest_rows(d, 512, processes, bits));
      CHECK(reducer.bytes() == Approx(bench::meet(ethernet, processes, work, bits, 512).bytes));
    }
  }
}
