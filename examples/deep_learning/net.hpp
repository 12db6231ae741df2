#pragma once
// Feed-forward nets of convolutions, rectifiers, maxima of 2 x 2 pixels and dense layers, forward and backward in Eigen, of
// float, or of double where a test compares with finite differences.
//
// Activations of a batch stand in one matrix, a column for each pixel of each image, channels in it; after the last picture
// layer, a column for each image. Both are the same memory:
//
//     picture   channels x (images * height * width)
//     vector    (height * width * channels) x images
//
// A layer's weights are a row for each output, so that what belongs to an output channel lies together. Multiplications use
// `used`, which may be a rounding of `value`; gradients go to `value` as they are (straight through: Bengio, Leonard,
// Courville 2013).

#include <Eigen/Core>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>
#include <zipml/base/error.hpp>
#include <zipml/base/random.hpp>

namespace deep {

using zipml::Index;

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;
template <class T>
using RowMatrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using Vector = Eigen::Matrix<T, Eigen::Dynamic, 1>;

struct Shape {
  Index channels = 1, height = 1, width = 1;
  Index pixels() const { return height * width; }
  Index size() const { return channels * pixels(); }
  bool operator==(const Shape&) const = default;
};

/// What a layer learns.
template <class T>
struct Parameters {
  RowMatrix<T> value;  // outputs x inputs
  RowMatrix<T> used;   // what it is multiplied with
  RowMatrix<T> gradient;
  RowMatrix<T> velocity;
  Vector<T> bias, bias_gradient, bias_velocity;

  /// Normal weights of variance 2 / inputs (He, Zhang, Ren, Sun 2015), a function of seed and layer alone.
  void start(Index outputs, Index inputs, std::uint64_t seed, std::uint32_t layer) {
    value.resize(outputs, inputs);
    const zipml::Random random(seed);
    const double scale = std::sqrt(2.0 / static_cast<double>(inputs));
    for (Index i = 0; i < value.size(); i += 4) {
      const auto z =
          zipml::normals(random.words(zipml::Stream::generated, layer, 0, static_cast<std::uint64_t>(i)));
      for (Index k = 0; k < 4 && i + k < value.size(); ++k)
        value.data()[i + k] = static_cast<T>(scale * z[static_cast<std::size_t>(k)]);
    }
    used = value;
    gradient = velocity = RowMatrix<T>::Zero(outputs, inputs);
    bias = bias_gradient = bias_velocity = Vector<T>::Zero(outputs);
  }
};

template <class T>
class Layer {
 public:
  explicit Layer(Shape input, Shape output) : input_(input), output_(output) {}
  virtual ~Layer() = default;
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;

  const Shape& input() const { return input_; }
  const Shape& output() const { return output_; }
  /// Null: it learns nothing.
  virtual Parameters<T>* parameters() { return nullptr; }
  virtual std::string name() const = 0;

  /// The output of a batch, which stays until the next call.
  virtual const Matrix<T>& forward(const Matrix<T>& in) = 0;
  /// From the loss's derivatives by the output of the last batch, the parameters' gradients and, unless it is the first layer,
  /// the derivatives by the input.
  virtual void backward(const Matrix<T>& in, const Matrix<T>& out_gradient, Matrix<T>* in_gradient) = 0;
  /// Gives back what the last batch has left.
  virtual void release() = 0;

 protected:
  Index images_of(const Matrix<T>& in) const { return in.size() / input_.size(); }

 private:
  Shape input_, output_;
};

/// Kernels of side x side pixels, zeros about the picture, outputs of the same height and width.
template <class T>
class Convolution final : public Layer<T> {
 public:
  Convolution(Shape in, Index channels, Index side, std::uint64_t seed, std::uint32_t layer)
      : Layer<T>(in, {channels, in.height, in.width}), side_(side) {
    parameters_.start(channels, side * side * in.channels, seed, layer);
  }
  Parameters<T>* parameters() override { return &parameters_; }
  void release() override { patches_ = out_ = Matrix<T>(); }
  std::string name() const override {
    return "convolution " + std::to_string(side_) + "x" + std::to_string(side_) + " to " +
           std::to_string(this->output().channels);
  }

  const Matrix<T>& forward(const Matrix<T>& in) override {
    gather(in);
    out_.noalias() = parameters_.used * patches_;
    out_.colwise() += parameters_.bias;
    return out_;
  }
  void backward(const Matrix<T>&, const Matrix<T>& out_gradient, Matrix<T>* in_gradient) override {
    parameters_.gradient.noalias() = out_gradient * patches_.transpose();
    parameters_.bias_gradient = out_gradient.rowwise().sum();
    if (in_gradient == nullptr) return;
    patches_.noalias() =
        parameters_.used.transpose() * out_gradient;  // of the forward pass no more is needed
    scatter(*in_gradient);
  }

 private:
  /// visit(pixel of a patch's centre, its row in the patch, pixel it lies on or -1), for the pixels of all images.
  template <class Visit>
  void for_each_place(Index images, const Visit& visit) const {
    const Shape& in = this->input();
    const Index reach = side_ / 2;
    for (Index image = 0; image < images; ++image)
      for (Index y = 0; y < in.height; ++y)
        for (Index x = 0; x < in.width; ++x)
          for (Index v = 0; v < side_; ++v)
            for (Index u = 0; u < side_; ++u) {
              const Index at_y = y + v - reach, at_x = x + u - reach;
              const bool inside = at_y >= 0 && at_y < in.height && at_x >= 0 && at_x < in.width;
              const Index first = image * in.pixels();
              visit(first + y * in.width + x, (v * side_ + u) * in.channels,
                    inside ? first + at_y * in.width + at_x : Index{-1});
            }
  }
  void gather(const Matrix<T>& in) {
    const Index channels = this->input().channels, images = this->images_of(in);
    patches_.resize(side_ * side_ * channels, images * this->input().pixels());
    const T* from = in.data();
    for_each_place(images, [&](Index pixel, Index row, Index place) {
      T* to = patches_.data() + pixel * patches_.rows() + row;
      for (Index c = 0; c < channels; ++c) to[c] = place < 0 ? T{0} : from[place * channels + c];
    });
  }
  void scatter(Matrix<T>& in_gradient) const {
    const Index channels = this->input().channels;
    const Index images = patches_.cols() / this->input().pixels();
    in_gradient.setZero(channels, patches_.cols());
    for_each_place(images, [&](Index pixel, Index row, Index place) {
      if (place < 0) return;
      const T* from = patches_.data() + pixel * patches_.rows() + row;
      T* to = in_gradient.data() + place * channels;
      for (Index c = 0; c < channels; ++c) to[c] += from[c];
    });
  }

  Index side_;
  Parameters<T> parameters_;
  Matrix<T> patches_, out_;
};

/// All inputs with each output.
template <class T>
class Dense final : public Layer<T> {
 public:
  Dense(Shape in, Index outputs, std::uint64_t seed, std::uint32_t layer) : Layer<T>(in, {outputs, 1, 1}) {
    parameters_.start(outputs, in.size(), seed, layer);
  }
  Parameters<T>* parameters() override { return &parameters_; }
  void release() override { out_ = Matrix<T>(); }
  std::string name() const override { return "dense to " + std::to_string(this->output().channels); }

  const Matrix<T>& forward(const Matrix<T>& in) override {
    out_.noalias() = parameters_.used * vectors(in);
    out_.colwise() += parameters_.bias;
    return out_;
  }
  void backward(const Matrix<T>& in, const Matrix<T>& out_gradient, Matrix<T>* in_gradient) override {
    parameters_.gradient.noalias() = out_gradient * vectors(in).transpose();
    parameters_.bias_gradient = out_gradient.rowwise().sum();
    if (in_gradient == nullptr) return;
    in_gradient->resize(in.rows(), in.cols());
    Eigen::Map<Matrix<T>>(in_gradient->data(), this->input().size(), this->images_of(in)).noalias() =
        parameters_.used.transpose() * out_gradient;
  }

 private:
  Eigen::Map<const Matrix<T>> vectors(const Matrix<T>& in) const {
    return {in.data(), this->input().size(), this->images_of(in)};
  }
  Parameters<T> parameters_;
  Matrix<T> out_;
};

/// max(x, 0).
template <class T>
class Rectifier final : public Layer<T> {
 public:
  explicit Rectifier(Shape shape) : Layer<T>(shape, shape) {}
  void release() override { out_ = Matrix<T>(); }
  std::string name() const override { return "rectifier"; }
  const Matrix<T>& forward(const Matrix<T>& in) override { return out_ = in.cwiseMax(T{0}); }
  void backward(const Matrix<T>& in, const Matrix<T>& out_gradient, Matrix<T>* in_gradient) override {
    if (in_gradient != nullptr)
      *in_gradient = (in.array() > T{0}).select(out_gradient.array(), T{0}).matrix();
  }

 private:
  Matrix<T> out_;
};

/// The largest of 2 x 2 pixels of a channel; a last odd row or column is left out.
template <class T>
class Maximum final : public Layer<T> {
 public:
  explicit Maximum(Shape in) : Layer<T>(in, {in.channels, in.height / 2, in.width / 2}) {}
  void release() override {
    out_ = Matrix<T>();
    from_ = Matrix<Index>();
  }
  std::string name() const override { return "maximum of 2x2"; }

  const Matrix<T>& forward(const Matrix<T>& in) override {
    const Index channels = this->input().channels;
    out_.resize(channels, this->images_of(in) * this->output().pixels());
    from_.resize(channels, out_.cols());
    for_each_pixel(this->images_of(in), [&](Index to, const Index(&places)[4]) {
      for (Index c = 0; c < channels; ++c) {
        Index best = places[0];
        for (const Index place : places)
          if (in(c, place) > in(c, best)) best = place;
        out_(c, to) = in(c, best);
        from_(c, to) = best;
      }
    });
    return out_;
  }
  void backward(const Matrix<T>& in, const Matrix<T>& out_gradient, Matrix<T>* in_gradient) override {
    if (in_gradient == nullptr) return;
    in_gradient->setZero(in.rows(), in.cols());
    // The next layer may have it as a column for each image.
    const T* gradient = out_gradient.data();
    for (Index to = 0; to < from_.cols(); ++to)
      for (Index c = 0; c < from_.rows(); ++c)
        (*in_gradient)(c, from_(c, to)) += gradient[to * from_.rows() + c];
  }

 private:
  template <class Visit>
  void for_each_pixel(Index images, const Visit& visit) const {
    const Shape &in = this->input(), &out = this->output();
    for (Index image = 0; image < images; ++image)
      for (Index y = 0; y < out.height; ++y)
        for (Index x = 0; x < out.width; ++x) {
          const Index first = image * in.pixels() + 2 * y * in.width + 2 * x;
          visit(image * out.pixels() + y * out.width + x,
                {first, first + 1, first + in.width, first + in.width + 1});
        }
  }
  Matrix<T> out_;
  Matrix<Index> from_;
};

/// Layers one behind the other, the last one a score for each class.
template <class T>
class Net {
 public:
  using Layers = std::vector<std::unique_ptr<Layer<T>>>;

  /// `images` are picture columns.
  const Matrix<T>& scores(const Matrix<T>& images) {
    inputs_.clear();
    const Matrix<T>* at = &images;
    for (const auto& layer : layers_) {
      inputs_.push_back(at);
      at = &layer->forward(*at);
    }
    return *at;
  }

  /// The mean of -log of the softmax at the label over a batch; every gradient is that of this mean.
  double loss_and_gradients(const Matrix<T>& images, const std::vector<int>& labels) {
    gradient_ = scores(images);
    double loss = 0.0;
    for (Index i = 0; i < gradient_.cols(); ++i) {
      auto column = gradient_.col(i);
      const Index label = labels[static_cast<std::size_t>(i)];
      const T largest = column.maxCoeff(), own = column(label);
      column = (column.array() - largest).exp().matrix();
      const T sum = column.sum();
      loss += std::log(static_cast<double>(sum)) - static_cast<double>(own - largest);
      column /= sum;
      column(label) -= T{1};
    }
    const auto images_of_batch = static_cast<double>(gradient_.cols());
    gradient_ /= static_cast<T>(images_of_batch);
    for (std::size_t k = layers_.size(); k-- > 0;) {
      layers_[k]->backward(*inputs_[k], gradient_, k > 0 ? &next_ : nullptr);
      if (k > 0) gradient_.swap(next_);
    }
    return loss / images_of_batch;
  }

  /// Gives back what the last batch has left: the parameters stay.
  void release() {
    inputs_.clear();
    gradient_ = next_ = Matrix<T>();
    for (const auto& layer : layers_) layer->release();
  }

  Layers& layers() { return layers_; }
  const Shape& input() const { return layers_.front()->input(); }
  std::vector<Parameters<T>*> parameters() {
    std::vector<Parameters<T>*> all;
    for (const auto& layer : layers_)
      if (layer->parameters() != nullptr) all.push_back(layer->parameters());
    return all;
  }

 private:
  Layers layers_;
  std::vector<const Matrix<T>*> inputs_;
  Matrix<T> gradient_, next_;
};

/// Two convolutions of 3 x 3 pixels to 8 and 16 channels, each with a maximum of 2 x 2, and dense layers to 64 and to the
/// classes.
template <class T>
Net<T> convolutional_net(Shape in, Index classes, std::uint64_t seed) {
  if (in.height < 4 || in.width < 4)
    throw zipml::Error("images are too small for two maxima of 2 x 2", "4 x 4 pixels or more",
                       std::to_string(in.height) + " x " + std::to_string(in.width));
  Net<T> net;
  auto& layers = net.layers();
  const auto at = [&] { return layers.back()->output(); };
  layers.push_back(std::make_unique<Convolution<T>>(in, 8, 3, seed, 1));
  layers.push_back(std::make_unique<Rectifier<T>>(at()));
  layers.push_back(std::make_unique<Maximum<T>>(at()));
  layers.push_back(std::make_unique<Convolution<T>>(at(), 16, 3, seed, 2));
  layers.push_back(std::make_unique<Rectifier<T>>(at()));
  layers.push_back(std::make_unique<Maximum<T>>(at()));
  layers.push_back(std::make_unique<Dense<T>>(at(), 64, seed, 3));
  layers.push_back(std::make_unique<Rectifier<T>>(at()));
  layers.push_back(std::make_unique<Dense<T>>(at(), classes, seed, 4));
  return net;
}

/// Dense layers to 256, 128 and the classes.
template <class T>
Net<T> dense_net(Shape in, Index classes, std::uint64_t seed) {
  Net<T> net;
  auto& layers = net.layers();
  layers.push_back(std::make_unique<Dense<T>>(in, 256, seed, 1));
  layers.push_back(std::make_unique<Rectifier<T>>(layers.back()->output()));
  layers.push_back(std::make_unique<Dense<T>>(layers.back()->output(), 128, seed, 2));
  layers.push_back(std::make_unique<Rectifier<T>>(layers.back()->output()));
  layers.push_back(std::make_unique<Dense<T>>(layers.back()->output(), classes, seed, 3));
  return net;
}

}  // namespace deep
