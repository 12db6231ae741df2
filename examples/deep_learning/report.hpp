#pragma once
// What comes out: a table, one JSON object, pictures.

#include <string>
#include <vector>

#include "study.hpp"

namespace deep {

/// What the runs were.
struct Circumstances {
  std::string set, net, isa;
  Index train = 0, test = 0;
  int seeds = 0, epochs = 0, refit = 0, gradient_bits = 32;
  Index batch = 0;
  double step = 0.0, seconds = 0.0;
};

void print_table(const std::vector<Row>& rows, const std::vector<PackedReport>& packed,
                 const Circumstances& how);
void print_json(const std::vector<Run>& runs, const std::vector<Row>& rows,
                const std::vector<PackedReport>& packed, const Circumstances& how);

/// table.csv: a line for each quantizer; runs.csv: one for each run and epoch.
void write_csv(const std::vector<Run>& runs, const std::vector<Row>& rows, const std::string& folder);
/// curves.svg (training loss by epochs), levels.svg (a layer's weights and where quantizers put their levels), filters.png (the
/// first layer's, in full precision and rounded). Throws zipml::Error where gnuplot fails.
void draw_pictures(const std::vector<Run>& runs, const std::vector<Row>& rows, const std::string& folder);

}  // namespace deep
