// libFuzzer target of packed files and of NPY files: every input is refused with a zipml::Error, or is trained on, mapped
// as it is, without a read beyond it.
//
//     clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -Iinclude -Itests -isystem /usr/include/eigen3 \
//       tests/io/files_fuzz.cpp -pthread
//
// The first byte chooses what the rest is: a packed file as it is, one whose checksums are put right, so that what stands
// behind them is reached, or an NPY file.

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include <zipml/estimators/any_store.hpp>
#include <zipml/io/npy_table.hpp>
#include <zipml/zipml.hpp>

#include "packed_checksums.hpp"

namespace {

const std::string& path() {
  static const std::string name = "/tmp/zipml_fuzz." + std::to_string(getpid());
  return name;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 3 == 1) put_checksums(bytes);
  std::ofstream(path(), std::ios::binary | std::ios::trunc) << bytes;
  try {
    if (data[0] % 3 == 2) {
      zipml::LoadOptions options;
      options.memory_limit = 1 << 20;
      const zipml::Dataset loaded = zipml::load_npy(path(), options);
      if (loaded.values.size() != loaded.rows * loaded.cols) std::abort();
    } else {
      const zipml::AnyStore store = zipml::open_store(path());
      const zipml::Fit fit = zipml::visit_estimator(store.representation().estimator, [&](auto estimator) {
        return zipml::Sgd{}.fit(store, estimator, {.epochs = 1});
      });
      if (fit.model.cols() != store.cols()) std::abort();
    }
  } catch (const zipml::Error& error) {
    if (std::string(error.what()).empty()) std::abort();
  }
  return 0;
}
