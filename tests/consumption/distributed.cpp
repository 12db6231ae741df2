// A user's program for several processes; alone it is one of one.
#include <cstdio>
#include <zipml/distributed/mpi_reducer.hpp>
#include <zipml/distributed/together.hpp>
#include <zipml/zipml.hpp>

int main(int argc, char** argv) {
  const zipml::MpiSession session(&argc, &argv);
  return zipml::run_together("distributed", MPI_COMM_WORLD, [] {
    zipml::MpiReducer reducer;
    const auto data = zipml::synthetic(5, {.rows = 200, .test_rows = 0}).train;
    const auto store = zipml::quantize<4>(data, zipml::naive);
    const auto fit = zipml::Sgd{}.fit(store, {.epochs = 3, .model = {8}, .reducer = &reducer});
    if (!fit.success()) throw zipml::Error("no success");
    if (reducer.rank() == 0)
      std::printf("%s, %d processes\n", zipml::to_string(fit.status), reducer.workers());
  });
}
