// A loss of several classes together is not corrected for the variance of rounding.
// expect: a loss of several classes together reads one draw and corrects nothing
#include <zipml/training/classes.hpp>

#include "samples.hpp"

int main() {
#ifdef FIXED
  const auto store = zipml::quantize<4>(A, y, zipml::naive);
  const auto fit = zipml::fit_classes(zipml::Sgd{zipml::SoftmaxLoss{}}, store, zipml::naive);
#else
  const auto store = zipml::quantize<4>(A, y, zipml::variance_corrected);
  const auto fit = zipml::fit_classes(zipml::Sgd{zipml::SoftmaxLoss{}}, store, zipml::variance_corrected);
#endif
  return fit.fits.front().epochs;
}
