// Tomography in few bits, the paper's application: an image is reconstructed from its projections by SGD on
// the system matrix, whose row i holds the lengths of ray i in the pixels. The matrix is by far the largest
// thing there is, and its entries may be rounded to 2 bits, stochastically, without blurring the image:
// variance correction takes out what rounding adds. What is left, refinement takes out: the packed matrix is
// the preconditioner of the exact one, of which a few readings lead to the exact image.
//
// Phantom: ten ellipses (Shepp, Logan 1974, contrast as modified by Toft 1996), projected analytically, so
// that the matrix is a model of the measurement and not what made it. Parallel beams, as many angles and
// detectors as asked for.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>
#include <zipml/training/refinement.hpp>
#include <zipml/zipml.hpp>

#include "gnuplot.hpp"
#include "program.hpp"

namespace {

using zipml::Index;

struct Options {
  Index size = 48;  // pixels on a side
  Index angles = 120;
  int epochs = 20;
  Index batch = 16;
  double noise = 0.005;
  std::uint64_t seed = 1;
  std::vector<int> bits{32, 8, 4, 2};
  std::vector<int> refined{2};  // widths of the matrix that is refined from
  double tolerance = 1e-6;
  std::string png;
  std::string csv;
};

/// Refinement forms a matrix of pixels by pixels: 134 MB of doubles.
constexpr Index largest_refined = 64;

constexpr double pi = 3.14159265358979323846;

/// Values add up where ellipses overlap.
struct Ellipse {
  double value, a, b, x, y, degrees;
};
constexpr std::array<Ellipse, 10> phantom{{{1.0, 0.69, 0.92, 0.0, 0.0, 0.0},
                                           {-0.8, 0.6624, 0.874, 0.0, -0.0184, 0.0},
                                           {-0.2, 0.11, 0.31, 0.22, 0.0, -18.0},
                                           {-0.2, 0.16, 0.41, -0.22, 0.0, 18.0},
                                           {0.1, 0.21, 0.25, 0.0, 0.35, 0.0},
                                           {0.1, 0.046, 0.046, 0.0, 0.1, 0.0},
                                           {0.1, 0.046, 0.046, 0.0, -0.1, 0.0},
                                           {0.1, 0.046, 0.023, -0.08, -0.605, 0.0},
                                           {0.1, 0.023, 0.023, 0.0, -0.606, 0.0},
                                           {0.1, 0.023, 0.046, 0.06, -0.605, 0.0}}};

/// The phantom at a point of [-1, 1]^2.
double phantom_at(double x, double y) {
  double value = 0.0;
  for (const Ellipse& e : phantom) {
    const double c = std::cos(e.degrees * pi / 180.0), s = std::sin(e.degrees * pi / 180.0);
    const double u = ((x - e.x) * c + (y - e.y) * s) / e.a, v = ((y - e.y) * c - (x - e.x) * s) / e.b;
    if (u * u + v * v <= 1.0) value += e.value;
  }
  return value;
}

/// The integral of the phantom along the line x cos t + y sin t = r.
double projection(double t, double r) {
  double sum = 0.0;
  for (const Ellipse& e : phantom) {
    const double angle = t - e.degrees * pi / 180.0;
    const double c = e.a * std::cos(angle), s = e.b * std::sin(angle);
    const double reach = c * c + s * s;
    const double off = r - e.x * std::cos(t) - e.y * std::sin(t);
    if (off * off < reach) sum += 2.0 * e.value * e.a * e.b * std::sqrt(reach - off * off) / reach;
  }
  return sum;
}

/// Pixels, the mean of the phantom over 8 x 8 points of each; row 0 is the top.
std::vector<double> image_of_phantom(Index size) {
  constexpr int points = 8;
  std::vector<double> image(static_cast<std::size_t>(size * size));
  const double pixel = 2.0 / static_cast<double>(size);
  for (Index i = 0; i < size; ++i)
    for (Index j = 0; j < size; ++j) {
      double sum = 0.0;
      for (int p = 0; p < points; ++p)
        for (int q = 0; q < points; ++q)
          sum += phantom_at(-1.0 + pixel * (static_cast<double>(j) + (p + 0.5) / points),
                            1.0 - pixel * (static_cast<double>(i) + (q + 0.5) / points));
      image[static_cast<std::size_t>(i * size + j)] = sum / (points * points);
    }
  return image;
}

/// Lengths of the line x cos t + y sin t = r in the pixels of [-1, 1]^2: its
/// crossings with the lines of the grid, in their order (Siddon 1985). In units of a pixel's side.
void trace(double t, double r, Index size, float* row) {
  const double c = std::cos(t), s = std::sin(t);
  const double pixel = 2.0 / static_cast<double>(size);
  std::vector<double> crossings;  // places along the line, (r c - l s, r s + l c)
  for (Index k = 0; k <= size; ++k) {
    const double grid = -1.0 + pixel * static_cast<double>(k);
    if (std::fabs(s) > 1e-12) crossings.push_back((r * c - grid) / s);
    if (std::fabs(c) > 1e-12) crossings.push_back((grid - r * s) / c);
  }
  std::sort(crossings.begin(), crossings.end());
  for (std::size_t k = 1; k < crossings.size(); ++k) {
    const double length = crossings[k] - crossings[k - 1];
    if (length <= 1e-12) continue;
    const double middle = 0.5 * (crossings[k] + crossings[k - 1]);
    const auto j = static_cast<Index>(std::floor((r * c - middle * s + 1.0) / pixel));
    const auto i = static_cast<Index>(std::floor((1.0 - r * s - middle * c) / pixel));
    if (i >= 0 && i < size && j >= 0 && j < size) row[i * size + j] += static_cast<float>(length / pixel);
  }
}

/// Rays in rows, pixels in columns, projections as labels: two rays for each pixel of the diagonal, from
/// every angle.
zipml::Dataset measure(const Options& options) {
  constexpr double edge = 1.42;
  const auto rays = static_cast<Index>(std::ceil(2.0 * edge * static_cast<double>(options.size)));
  zipml::Dataset data;
  data.source = "phantom";
  data.rows = options.angles * rays;
  data.cols = options.size * options.size;
  data.values = zipml::Buffer<float>(zipml::checked_product(data.rows, data.cols, "the system matrix"));
  data.labels = zipml::Buffer<float>(data.rows);
  const zipml::Random random(options.seed);
  const double pixel = 2.0 / static_cast<double>(options.size);
  double largest = 0.0;
  for (Index k = 0; k < data.rows; ++k) {
    const double t = pi * static_cast<double>(k / rays) / static_cast<double>(options.angles);
    const double r = (2.0 * (static_cast<double>(k % rays) + 0.5) / static_cast<double>(rays) - 1.0) * edge;
    trace(t, r, options.size, data.values.data() + k * data.cols);
    const double integral = projection(t, r) / pixel;
    data.labels[k] = static_cast<float>(integral);
    largest = std::max(largest, integral);
  }
  for (Index k = 0; k < data.rows; ++k) {
    const auto z =
        zipml::normals(random.words(zipml::Stream::generated, 0, 0, static_cast<std::uint64_t>(k)));
    data.labels[k] += static_cast<float>(options.noise * largest * z[0]);
  }
  return data;
}

/// Least squares on projections as they are: pixels are weights, without a scale of their own.
struct Projections : zipml::SquaredLoss {
  static constexpr const char* name = "projections";
  zipml::LabelMap label_map(const zipml::LabelStatistics&) const { return {}; }
};
static_assert(zipml::AffineLoss<Projections>);

/// One reconstruction.
struct Image {
  std::string title;
  std::vector<double> pixels;
  double error = 0.0;       // |image - phantom| / |phantom|
  double from_exact = 0.0;  // |image - exact| / |exact|, where there is an exact one
  double stored_bits = 0.0;
  double store_bytes = 0.0;
  double moved_bytes = 0.0;  // through all channels, in all epochs
  double epoch_seconds = 0.0;
  double seconds = 0.0;  // in all, without packing
  int readings = 0;      // of the matrix in float32 by a refinement
  std::string status;
};

/// |image - other| / |other|
double distance(const std::vector<double>& image, const std::vector<double>& other) {
  double squares = 0.0, of_other = 0.0;
  for (std::size_t k = 0; k < image.size(); ++k) {
    squares += (image[k] - other[k]) * (image[k] - other[k]);
    of_other += other[k] * other[k];
  }
  return std::sqrt(squares / of_other);
}

class Reconstruction {
 public:
  explicit Reconstruction(const Options& options)
      : options_(options), truth_(image_of_phantom(options.size)), data_(measure(options)) {}

  const std::vector<double>& truth() const { return truth_; }
  const zipml::Dataset& data() const { return data_; }

  /// Samples in so many bits, model and gradient in `channels`.
  Image run(int bits, const std::string& title, const zipml::Channel& model,
            const zipml::Channel& gradient) const {
    return packed(bits, [&](const auto& store, auto estimator) {
      return solve(store, estimator, title, model, gradient);
    });
  }

  /// The exact image: from the matrix in so many bits, and a few readings of the one in float32.
  Image refine(int bits, const std::string& title, double tolerance) const {
    return packed(bits, [&](const auto& store, auto estimator) {
      const zipml::Refined refined =
          zipml::refine(store, estimator, objective_, {.tolerance = tolerance}, zipml::progress_bar());
      Image image = image_of(title, store, refined.weights.span());
      image.moved_bytes = refined.full_bytes + refined.packed_bytes;
      image.seconds = refined.seconds;
      image.readings = refined.full_passes;
      image.status = zipml::to_string(refined.status);
      return image;
    });
  }

 private:
  /// Calls visit(store, estimator) with the matrix in so many bits.
  template <class Visit>
  Image packed(int bits, Visit visit) const {
    // Lengths are what they are: neither centred nor scaled, so that 0 is a level and stays 0.
    const zipml::QuantizeOptions quantization{.seed = options_.seed, .standardize = false};
    if (bits == 32)
      return visit(zipml::quantize<32>(data_, zipml::full_precision, quantization), zipml::full_precision);
    return zipml::visit_bits(bits, [&](auto b) {
      return visit(zipml::quantize<b()>(data_, zipml::variance_corrected, quantization),
                   zipml::variance_corrected);
    });
  }

  template <class Store>
  Image image_of(const std::string& title, const Store& store, std::span<const double> pixels) const {
    Image image{.title = title, .pixels = {pixels.begin(), pixels.end()}, .status = {}};
    image.error = distance(image.pixels, truth_);
    image.stored_bits = store.stored_bits();
    image.store_bytes = static_cast<double>(store.store_bytes());
    return image;
  }

  template <class Store, class Estimator>
  Image solve(const Store& store, Estimator estimator, const std::string& title, const zipml::Channel& model,
              const zipml::Channel& gradient) const {
    const zipml::Sgd sgd{Projections{}, range_of_pixels()};
    const zipml::Fit fit =
        sgd.fit(store, estimator,
                {.epochs = options_.epochs, .batch = options_.batch, .model = model, .gradient = gradient},
                zipml::progress_bar());
    Image image = image_of(title, store, fit.weights.span());
    image.status = zipml::to_string(fit.status);
    image.moved_bytes = fit.samples_moved.bytes() + fit.model_moved.bytes() + fit.gradient_moved.bytes();
    image.epoch_seconds = fit.seconds_per_epoch;
    image.seconds = fit.seconds_per_epoch * fit.epochs;
    return image;
  }

  /// No pixel is darker than nothing, or brighter than bone.
  static zipml::Box range_of_pixels() { return {0.0f, 1.0f}; }

  Options options_;
  std::vector<double> truth_;
  zipml::Dataset data_;
  zipml::Objective<Projections, zipml::Box> objective_{data_, Projections{}, range_of_pixels(), false};
};

void print(const Options& options, const zipml::Dataset& data, const std::vector<Image>& images) {
  std::printf(
      "%td x %td pixels, %td rays (%td angles), noise %g %%; system matrix of %td x %td, %.1f MB in "
      "float32\n",
      options.size, options.size, data.rows, options.angles, 100.0 * options.noise, data.rows, data.cols,
      4e-6 * static_cast<double>(data.rows) * static_cast<double>(data.cols));
  std::printf("%d epochs, batch %td, %s kernels\n\n", options.epochs, options.batch,
              zipml::name_of(zipml::active_isa()));
  std::printf("%-28s  %7s  %10s  %8s  %10s  %12s  %9s  %s\n", "bits", "stored", "matrix MB", "error",
              "from exact", "moved MB", "s/epoch", "status");
  const bool has_exact =
      std::any_of(images.begin(), images.end(), [](const Image& i) { return i.readings > 0; });
  for (const Image& image : images) {
    char from_exact[16] = "-";
    if (has_exact) std::snprintf(from_exact, sizeof from_exact, "%.3f %%", 100.0 * image.from_exact);
    char epoch[16] = "-";
    if (image.readings == 0) std::snprintf(epoch, sizeof epoch, "%.4f", image.epoch_seconds);
    std::printf("%-28s  %7.3f  %10.2f  %6.2f %%  %10s  %12.2f  %9s  %s", image.title.c_str(),
                image.stored_bits, 1e-6 * image.store_bytes, 100.0 * image.error, from_exact,
                1e-6 * image.moved_bytes, epoch, image.status.c_str());
    if (image.readings > 0) std::printf(", %d readings in float32, %.1f s", image.readings, image.seconds);
    std::printf("\n");
  }
  std::printf(
      "\nerror: |image - phantom| / |phantom|. moved: samples, models and gradients, all epochs; all three: "
      "model and\n"
      "gradient in as few bits as the matrix, with error feedback.\n");
  if (has_exact)
    std::printf(
        "from exact: |image - exact| / |exact|, the exact image being where the matrix in float32 has its "
        "minimum. "
        "refined:\nto it by that matrix, read a few times, with the packed one as preconditioner.\n");
}

void write_csv(const std::string& path, const std::vector<Image>& images) {
  std::FILE* file = std::fopen(path.c_str(), "w");
  if (file == nullptr) throw zipml::Error(zipml::Place{path}, "cannot write", "a writable file", "none");
  std::fprintf(file,
               "run,stored_bits,store_bytes,relative_error,moved_bytes,seconds_per_epoch,status,from_exact,"
               "readings,seconds\n");
  for (const Image& image : images)
    std::fprintf(file, "\"%s\",%.6g,%.0f,%.6g,%.0f,%.6g,%s,%.6g,%d,%.6g\n", image.title.c_str(),
                 image.stored_bits, image.store_bytes, image.error, image.moved_bytes, image.epoch_seconds,
                 image.status.c_str(), image.from_exact, image.readings, image.seconds);
  const bool good = std::ferror(file) == 0;
  if (std::fclose(file) != 0 || !good)
    throw zipml::Error(zipml::Place{path}, "cannot write", "space", "none left");
}

/// The phantom and its images side by side, with their errors and what training moved.
void write_png(const std::string& path, Index size, const std::vector<Image>& images) {
  Gnuplot picture(path, 200 * static_cast<int>(images.size()), 250, "pngcairo");
  std::FILE* plot = picture.stream();
  std::fprintf(
      plot,
      "set termoption font 'sans-serif,10'\nset multiplot\nunset tics\nunset colorbox\nunset border\n"
      "set palette gray\nset cbrange [0:0.5]\nset xrange [-0.5:%td.5]\nset yrange [%td.5:-0.5]\n"
      "set bmargin at screen 0.02\nset tmargin at screen 0.78\n",
      size - 1, size - 1);
  for (std::size_t k = 0; k < images.size(); ++k) {
    const Image& image = images[k];
    char title[120];
    if (image.stored_bits == 0.0)
      std::snprintf(title, sizeof title, "%s", image.title.c_str());
    else if (image.readings == 0)
      std::snprintf(title, sizeof title, "%s: %.0f MB moved\\nerror %.1f %%", image.title.c_str(),
                    1e-6 * image.moved_bytes, 100.0 * image.error);
    else if (image.from_exact == 0.0)
      std::snprintf(title, sizeof title, "%s\\nerror %.1f %%", image.title.c_str(), 100.0 * image.error);
    else
      std::snprintf(title, sizeof title, "%s: %.0f MB\\n%.1g %% from exact", image.title.c_str(),
                    1e-6 * image.moved_bytes, 100.0 * image.from_exact);
    std::fprintf(
        plot,
        "set lmargin at screen %g\nset rmargin at screen %g\nset label 1 \"%s\" at graph 0.5,1.20 center "
        "noenhanced\nplot '-' matrix with image notitle\n",
        (static_cast<double>(k) + 0.025) / static_cast<double>(images.size()),
        (static_cast<double>(k) + 0.975) / static_cast<double>(images.size()), title);
    for (Index i = 0; i < size; ++i) {
      for (Index j = 0; j < size; ++j)
        std::fprintf(plot, "%.4g ", image.pixels[static_cast<std::size_t>(i * size + j)]);
      std::fprintf(plot, "\n");
    }
    std::fprintf(plot, "e\n");
  }
  std::fprintf(plot, "unset multiplot\n");
  picture.finish();
}

void run(const Options& options) {
  const Reconstruction reconstruction(options);
  std::vector<Image> images, shown{{.title = "phantom", .pixels = reconstruction.truth(), .status = {}}};
  for (const int bits : options.bits) {
    images.push_back(reconstruction.run(bits, std::to_string(bits) + " bits", {}, {}));
    if (bits <= 8) {
      const zipml::Channel channel{.bits = bits, .error_feedback = true};
      images.push_back(reconstruction.run(bits, std::to_string(bits) + " bits, all three", channel, channel));
    }
    shown.push_back(images.back());
    shown.back().title = std::to_string(bits) + " bits";
  }
  for (const int bits : options.refined) {
    images.push_back(reconstruction.refine(bits, std::to_string(bits) + " bits, refined", options.tolerance));
    shown.push_back(images.back());
  }
  if (!options.refined.empty()) {
    shown.push_back(reconstruction.refine(8, "32 bits, exact", 1e-3 * options.tolerance));
    const std::vector<double>& exact = shown.back().pixels;
    for (Image& image : images) image.from_exact = distance(image.pixels, exact);
    for (Image& image : shown) image.from_exact = distance(image.pixels, exact);
  }
  print(options, reconstruction.data(), images);
  if (!options.csv.empty()) write_csv(options.csv, images);
  if (!options.png.empty()) write_png(options.png, options.size, shown);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{
      "Reconstructs an image from its projections by SGD on the quantized system matrix: the error against "
      "bits and "
      "bytes."};
  app.set_version_flag("--version", std::string("tomography (zipml ") + ZIPML_VERSION + ")");
  app.option_defaults()->always_capture_default();
  app.add_option("--size", options.size, "pixels on a side")->check(CLI::Range(Index{4}, Index{512}));
  app.add_option("--angles", options.angles, "of the beams, over half a turn")
      ->check(CLI::Range(Index{1}, Index{5000}));
  app.add_option("--bits", options.bits, "widths of the matrix, 1 to 8 or 32")
      ->check(CLI::IsMember({1, 2, 3, 4, 5, 6, 7, 8, 32}))
      ->delimiter(',');
  CLI::Option* const refined =
      app.add_option(
             "--refined", options.refined,
             "widths of the matrix to refine from, to the exact image, 0: none; up to 64 pixels on a side")
          ->check(CLI::Range(0, 8))
          ->delimiter(',');
  app.add_option("--tolerance", options.tolerance, "of a refinement, as a share of the objective")
      ->check(CLI::PositiveNumber);
  app.add_option("--epochs", options.epochs)->check(CLI::Range(1, 100'000));
  app.add_option("--batch", options.batch, "rays of a batch")->check(CLI::Range(Index{1}, Index{1} << 30));
  app.add_option("--noise", options.noise, "standard deviation over the largest projection")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--seed", options.seed, "of noise and rounding");
  app.add_option(
      "--png", options.png,
      "phantom and images side by side, matrix, model and gradient in these bits, drawn by gnuplot");
  app.add_option("--csv", options.csv, "the table");
  app.callback([&options, refined] {
    std::erase(options.refined, 0);
    if (options.size <= largest_refined) return;
    if (refined->count() > 0 && !options.refined.empty())
      throw CLI::ValidationError("--refined is for images of up to 64 pixels on a side");
    options.refined.clear();
  });
  return run_program("tomography", app, argc, argv, [&] { run(options); });
}
