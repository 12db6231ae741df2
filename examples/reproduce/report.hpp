#pragma once
// How claims are shown: a table for people, CSV and pictures in files, one JSON object for programs.

#include <string>
#include <vector>

#include "claims.hpp"

/// What the program ran on, for the head of the report.
struct Circumstances {
  std::vector<std::string> sets = {};  // "skewed: 463715 x 90, least-squares"
  std::vector<std::string> missing = {};
  int seeds = 5;
  int epochs = 20;
  bool quick = false;
  double seconds = 0.0;
};

void print_table(const std::vector<Claim>& claims, const Circumstances& circumstances);
void print_json(const std::vector<Claim>& claims, const Circumstances& circumstances);

/// claims.csv and curves.csv in `folder`.
void write_csv(const std::vector<Claim>& claims, const std::vector<Curve>& curves, const std::string& folder);
/// curves.svg in `folder`: for each set, loss against epochs and against bytes moved. Needs gnuplot.
void write_svg(const std::vector<Curve>& curves, const std::string& folder);
