// A user's program, the same for every way to get the headers.
#include <cstdio>
#include <zipml/zipml.hpp>

int main() {
  const auto data = zipml::synthetic(5, {.rows = 200, .test_rows = 0}).train;
  const auto store =
      zipml::quantize<4>(data.matrix(), data.label_vector(), zipml::double_sampling, {.seed = 1});
  const auto fit = zipml::Sgd{}.fit(store, {.epochs = 3});
  std::printf("%s with %s kernels\n", zipml::to_string(fit.status), fit.isa.c_str());
  return fit.success() ? 0 : 1;
}
