#pragma once
// Pictures that gnuplot draws: commands and data go to `stream()`, text from outside through `quoted`. A Chart
// is curves whose names stand beside them.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>
#include <zipml/base/error.hpp>

class Gnuplot {
 public:
  /// A picture of width x height, `terminal` svg or pngcairo. Throws zipml::Error when the file cannot be
  /// written or gnuplot cannot be started.
  explicit Gnuplot(const std::string& path, int width = 900, int height = 600, const char* terminal = "svg")
      : width_(width), height_(height) {
    std::FILE* const file = std::fopen(path.c_str(), "w");  // gnuplot itself would write elsewhere
    if (file == nullptr) throw zipml::Error(zipml::Place{path}, "cannot write", "a writable file", "none");
    std::fclose(file);
    stream_ = popen("gnuplot", "w");
    if (stream_ == nullptr) throw zipml::Error("cannot start gnuplot (Debian: gnuplot-nox)");
    std::fprintf(stream_, "set terminal %s size %d,%d background 'white'\nset output %s\n", terminal, width,
                 height, quoted(path).c_str());
  }
  ~Gnuplot() {
    if (stream_ != nullptr) pclose(stream_);
  }
  Gnuplot(const Gnuplot&) = delete;
  Gnuplot& operator=(const Gnuplot&) = delete;

  std::FILE* stream() { return stream_; }
  int width() const { return width_; }
  int height() const { return height_; }

  /// Waits for the picture. Throws zipml::Error when gnuplot failed.
  void finish() {
    std::FILE* stream = stream_;
    stream_ = nullptr;
    if (pclose(stream) != 0) throw zipml::Error("gnuplot failed (Debian: gnuplot-nox)");
  }

  /// As a gnuplot string: nothing in it is a command.
  static std::string quoted(const std::string& text) {
    std::string result = "'";
    for (const char c : text)
      result += c == '\'' ? std::string("''") : std::string(1, c < ' ' && c >= 0 ? ' ' : c);
    return result + "'";
  }

 private:
  std::FILE* stream_ = nullptr;
  int width_;
  int height_;
};

/// Colours that readers with any colour vision tell apart (Okabe, Ito 2008), dark enough for text on white.
namespace colour {
inline constexpr const char* black = "#222222";
inline constexpr const char* grey = "#6b6b6b";
inline constexpr const char* light = "#b8b8b8";
inline constexpr const char* green = "#009e73";
inline constexpr const char* blue = "#0072b2";
inline constexpr const char* vermilion = "#d55e00";
inline constexpr const char* purple = "#aa4499";
}  // namespace colour

/// Curves on a logarithmic y axis, each with its name beside one of its ends: no legend. A name takes the
/// nearest place where it covers neither curves nor other names; a thin line leads to a name far away.
class Chart {
 public:
  struct Point {
    double x, y;
  };
  struct Box {
    double left, bottom, right, top;
  };
  struct Curve {
    std::string name;  // empty: none is written
    const char* colour = colour::black;
    std::vector<Point> points{};
    int symbol = 7;  // gnuplot's point type; 0: none
    bool dashed = false;
  };

  static constexpr int font = 16;        // pixels
  static constexpr double symbol = 5.0;  // half a symbol, pixels

  /// `area` in pixels of the picture from its lower left corner, `values` at its edges.
  Chart(Gnuplot& picture, const Box& area, const Box& values, bool log_x = false)
      : picture_(picture), area_(area), values_(values), log_x_(log_x) {
    std::fprintf(picture.stream(), "set termoption font 'sans-serif,%d'\nunset label\nunset arrow\n", font);
  }

  /// Two lines above the left end of the area; the second one says what the y axis is.
  void head(const std::string& title, const std::string& y_axis) {
    text(title, colour::black, {area_.left, area_.top + 2.2 * font}, false);
    text(y_axis, colour::grey, {area_.left, area_.top + font}, false);
  }

  /// Names are placed in the order of the curves. A curve without points is left out.
  void add(Curve curve) {
    if (!curve.points.empty()) curves_.push_back(std::move(curve));
  }

  /// A horizontal line with its name on it, preferably at its right end.
  void add_level(double y, const std::string& name, bool dashed = false) {
    levels_.push_back(
        {name, dashed ? colour::grey : colour::light, {{values_.left, y}, {values_.right, y}}, 0, dashed});
  }

  void draw() {
    std::FILE* const plot = picture_.stream();
    const double width = picture_.width(), height = picture_.height();
    std::fprintf(
        plot,
        "set margins screen %.4f, screen %.4f, screen %.4f, screen %.4f\nset xrange [%g:%g]\n"
        "set yrange [%g:%g]\nset logscale y\n%sset border 3 lc rgb '%s'\nset tics nomirror out scale "
        "0.5\n"
        "set mytics 1\nunset key\n",
        area_.left / width, area_.right / width, area_.bottom / height, area_.top / height, values_.left,
        values_.right, values_.bottom, values_.top, log_x_ ? "set logscale x 2\n" : "", colour::grey);
    for (const Curve& level : levels_) place_on(level);
    for (const Curve& curve : curves_)
      if (!curve.name.empty()) place_beside(curve);
    const char* comma = "plot";
    for (const auto* curves : {&levels_, &curves_})
      for (const Curve& curve : *curves) {
        std::fprintf(plot, "%s '-' using 1:2 with ", comma);
        if (curve.symbol > 0)
          std::fprintf(plot, "linespoints pt %d ps 0.8", curve.symbol);
        else
          std::fprintf(plot, "lines");
        std::fprintf(plot, " lw %g dt %d lc rgb '%s' notitle", curve.symbol > 0 ? 2.5 : 1.3,
                     curve.dashed ? 2 : 1, curve.colour);
        comma = ",";
      }
    std::fprintf(plot, "\n");
    for (const auto* curves : {&levels_, &curves_})
      for (const Curve& curve : *curves) {
        for (const Point& p : curve.points) std::fprintf(plot, "%.6g %.6g\n", p.x, p.y);
        std::fprintf(plot, "e\n");
      }
  }

 private:
  static double fraction(double value, double low, double high, bool log) {
    return log ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
  }

  Point pixel(const Point& p) const {
    return {area_.left + (area_.right - area_.left) * fraction(p.x, values_.left, values_.right, log_x_),
            area_.bottom + (area_.top - area_.bottom) * fraction(p.y, values_.bottom, values_.top, true)};
  }

  static double text_width(const std::string& text) { return 0.6 * font * static_cast<double>(text.size()); }

  /// The part of the line from a to b in the box, over the length of the line (Liang, Barsky 1984).
  static double inside(const Point& a, const Point& b, const Box& box) {
    double from = 0.0, to = 1.0;
    const auto clip = [&](double start, double step, double low, double high) {
      if (step == 0.0) {
        if (start < low || start > high) to = -1.0;
        return;
      }
      from = std::max(from, std::min((low - start) / step, (high - start) / step));
      to = std::min(to, std::max((low - start) / step, (high - start) / step));
    };
    clip(a.x, b.x - a.x, box.left, box.right);
    clip(a.y, b.y - a.y, box.bottom, box.top);
    return std::max(0.0, to - from);
  }

  /// Whether the lines from a to b and from c to d meet.
  static bool cross(const Point& a, const Point& b, const Point& c, const Point& d) {
    const auto side = [](const Point& p, const Point& q, const Point& r) {
      return (q.x - p.x) * (r.y - p.y) - (q.y - p.y) * (r.x - p.x) > 0.0;
    };
    return side(a, b, c) != side(a, b, d) && side(c, d, a) != side(c, d, b);
  }

  /// How much a name in this box would cover, in thousands for curves and names.
  double covered(const Box& box) const {
    const Box wide{box.left - symbol, box.bottom - symbol, box.right + symbol, box.top + symbol};
    double cost = 0.0;
    for (const Box& other : names_)
      if (box.left < other.right && other.left < box.right && box.bottom < other.top &&
          other.bottom < box.top)
        cost += 2000.0;
    for (const auto* curves : {&curves_, &levels_})
      for (const Curve& curve : *curves)
        for (std::size_t k = 0; k < curve.points.size(); ++k) {
          const Point to = pixel(curve.points[k]), from = k > 0 ? pixel(curve.points[k - 1]) : to;
          if (inside(from, to, box) > 0.0 || (curve.symbol > 0 && inside(to, to, wide) > 0.0))
            cost += curves == &curves_ ? 1000.0 : 200.0;
        }
    if (box.left < area_.left || box.right > area_.right || box.bottom < area_.bottom || box.top > area_.top)
      cost += 5000.0;
    return cost;
  }

  /// Curves other than its own, their symbols and names that the line from a to b meets.
  double crossings(const Point& a, const Point& b, const Curve& own) const {
    int count = 0;
    for (const Curve& curve : curves_)
      for (std::size_t k = 0; k < curve.points.size() && &curve != &own; ++k) {
        const Point p = pixel(curve.points[k]);
        if (k > 0 && cross(a, b, pixel(curve.points[k - 1]), p)) ++count;
        if (inside(a, b, {p.x - symbol, p.y - symbol, p.x + symbol, p.y + symbol}) > 0.0) ++count;
      }
    for (const Box& name : names_)
      if (inside(a, b, name) > 0.0) ++count;
    return count;
  }

  void text(const std::string& text, const char* colour, const Point& at, bool right_aligned) {
    std::fprintf(picture_.stream(), "set label %s at screen %.4f,%.4f %s noenhanced tc rgb '%s' front\n",
                 Gnuplot::quoted(text).c_str(), at.x / picture_.width(), at.y / picture_.height(),
                 right_aligned ? "right" : "left", colour);
  }

  void name(const Curve& curve, const char* colour, const Box& box, bool right_aligned) {
    names_.push_back(box);
    text(curve.name, colour, {right_aligned ? box.right : box.left, 0.5 * (box.bottom + box.top)},
         right_aligned);
  }

  void place_on(const Curve& level) {
    const double width = text_width(level.name), y = pixel(level.points[0]).y;
    Box best{};
    double lowest = INFINITY;
    for (double right = area_.right; right >= area_.left + width; right -= 10.0)
      for (const double bottom : {y + 2.0, y - 2.0 - font}) {
        const Box box{right - width, bottom, right, bottom + font};
        const double cost = covered(box) + 0.1 * (area_.right - right) + (bottom < y ? 50.0 : 0.0);
        if (cost < lowest) lowest = cost, best = box;
      }
    name(level, colour::grey, best, true);
  }

  void place_beside(const Curve& curve) {
    constexpr double gap = 8.0;
    const double width = text_width(curve.name);
    Box best{};
    Point start{}, end{};
    double lowest = INFINITY;
    for (const Point& anchor : {pixel(curve.points.back()), pixel(curve.points.front())})
      for (int step = -20; step <= 20; ++step)
        for (const bool right : {true, false})
          for (const double away : {gap, 4.0 * gap, 10.0 * gap}) {
            const double middle = anchor.y + 0.5 * font * step;
            const double left = right ? anchor.x + away : anchor.x - away - width;
            const Box box{left, middle - 0.5 * font, left + width, middle + 0.5 * font};
            const Point lead{right ? left - 2.0 : left + width + 2.0, middle};
            const double cost = covered(box) + 500.0 * crossings(anchor, lead, curve) +
                                std::fabs(middle - anchor.y) + away + (right ? 0.0 : 5.0);
            if (cost < lowest) lowest = cost, best = box, start = anchor, end = lead;
          }
    if (std::hypot(end.x - start.x, end.y - start.y) > 2.5 * gap)
      std::fprintf(picture_.stream(),
                   "set arrow from screen %.4f,%.4f to screen %.4f,%.4f nohead lw 0.7 lc rgb '%s'\n",
                   start.x / picture_.width(), start.y / picture_.height(), end.x / picture_.width(),
                   end.y / picture_.height(), curve.colour);
    name(curve, curve.colour, best, end.x < start.x);
  }

  Gnuplot& picture_;
  Box area_;
  Box values_;
  bool log_x_;
  std::vector<Curve> curves_{};
  std::vector<Curve> levels_{};
  std::vector<Box> names_{};
};
