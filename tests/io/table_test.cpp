// Tables as people have them: names, categories, missing cells, dates to ignore, numbers that float32 would drown.

#include <zipml/io/load.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"
#include "message.hpp"

namespace {

using zipml::Dataset;
using zipml::Header;
using zipml::Index;
using zipml::LineReader;
using zipml::LoadOptions;
using zipml::Missing;

Dataset parse(std::string_view text, const LoadOptions& options = {}) {
  LineReader reader = LineReader::from_memory(text, "f");
  return load(reader, options);
}

std::string message(std::string_view text, const LoadOptions& options = {}) {
  return message_of([&] { parse(text, options); });
}

Dataset load_csv_text(std::string_view text, const LoadOptions& options) {
  LineReader reader = LineReader::from_memory(text, "f");
  return load_csv(reader, options);
}

/// Row i in the user's units.
std::vector<double> row(const Dataset& data, Index i) {
  std::vector<double> values;
  for (Index j = 0; j < data.cols; ++j)
    values.push_back(data.features().offset(j) + static_cast<double>(data.values[i * data.cols + j]));
  return values;
}
double label(const Dataset& data, Index i) { return data.label_offset + static_cast<double>(data.labels[i]); }

using Row = std::vector<double>;
using Names = zipml::List<std::string>;

LoadOptions like(const Dataset& data, bool predicting = false) {
  LoadOptions options;
  options.like = data.schema;
  options.predicting = predicting;
  return options;
}

}  // namespace

TEST_CASE("columns of another table are matched by name", "[table]") {
  const Dataset train = parse("a,b,c,y\n1,2,3,4\n5,6,7,8\n");
  for (const char* text :
       {"c,a,b,y\n30,10,20,40\n", "y,a,b,c\n40,10,20,30\n", "a,x,y,b,c\n10,0,40,20,30\n"}) {
    INFO(text);
    const Dataset test = parse(text, like(train));
    CHECK(row(test, 0) == Row{10, 20, 30});
    CHECK(label(test, 0) == 40);
    CHECK(test.column_names() == train.column_names());
    CHECK(test.warnings.size() == (holds(text, "x") ? 1u : 0u));
  }
  CHECK(parse("a,x,y,b,c\n10,0,40,20,30\n", like(train)).warnings[0] ==
        "columns that training has not used are passed over: \"x\"");
  CHECK(message("a,b,y\n1,2,3\n", like(train)) ==
        "f:1:1: columns of the training table are missing: expected columns named \"c\", got columns named "
        "\"a\", "
        "\"b\", \"y\"");
  CHECK(holds(message("a,b,c,a,y\n1,2,3,4,5\n", like(train)), "two columns have the name of a feature"));
  CHECK(holds(message("a,b,c\n1,2,3\n", like(train)), "the label column is missing"));
  // Without names the places and their number decide.
  CHECK(row(parse("10,20,30,40\n", like(train)), 0) == Row{10, 20, 30});
  CHECK(message("10,20,30\n", like(train)) ==
        "f:1:1: wrong number of columns: expected 4 as in the training table (there are no names to go by), "
        "got 3 "
        "fields");
}

TEST_CASE("a table to be predicted needs no label", "[table]") {
  const Dataset train = parse("a,y,b\n1,2,3\n5,6,7\n", {.label = "y"});
  const Dataset named = parse("b,a\n3,1\n", like(train, true));
  CHECK_FALSE(named.has_labels);
  CHECK(row(named, 0) == Row{1, 3});
  const Dataset bare = parse("1,3\n5,7\n", like(train, true));
  CHECK_FALSE(bare.has_labels);
  CHECK(row(bare, 1) == Row{5, 7});
  const Dataset some = parse("a,y,b\n1,,3\n5,6,7\n", like(train, true));
  CHECK(std::isnan(some.labels[0]));
  CHECK(label(some, 1) == 6);

  const Dataset sparse = parse("1 1:1 2:2\n2 1:3\n");
  const Dataset unlabelled = parse("1:4\n1:5 2:6\n", [&] {
    LoadOptions options = like(sparse, true);
    options.format = "libsvm";
    return options;
  }());
  CHECK_FALSE(unlabelled.has_labels);
  CHECK(row(unlabelled, 1) == Row{5, 6});
  // A table for a model of a LIBSVM file: the same number of columns, with or without a label behind.
  CHECK(row(parse("4,5\n6,7\n", like(sparse, true)), 1) == Row{6, 7});
  CHECK(row(parse("4,5,1\n6,7,2\n", like(sparse, true)), 1) == Row{6, 7});
}

TEST_CASE("the label of a table that is read like another one is said where names do not", "[table]") {
  const Dataset named = parse("a,b,y\n1,2,3\n4,5,6\n");
  const auto with_label = [](LoadOptions options, const char* name) {
    options.label = name;
    return options;
  };
  CHECK(label(parse("a,target,b\n1,9,2\n", with_label(like(named, true), "target")), 0) == 9);
  CHECK(holds(message("a,b,y\n1,2,3\n", with_label(like(named, true), "nope")),
              "LoadOptions::label (--label) names no column"));
  CHECK(holds(message("a,b,y\n1,2,3\n", with_label(like(named, true), "a")),
              "is a feature of the training table"));
  // Without names the label may stand elsewhere, the others in their order.
  const Dataset bare = parse("1.5,2,3\n4.5,5,6\n");
  const Dataset first = parse("30,10.5,20\n60,40.5,50\n", with_label(like(bare), "1"));
  CHECK(row(first, 0) == Row{10.5, 20});
  CHECK(label(first, 1) == 60);
  // A first line that was a row is one again; a header is told, not lost.
  CHECK(parse("x1,2,3\n4.5,5,6\n",
              [&] {
                LoadOptions options =
                    like(parse("u,1,2\nv,3,4\n", {.header = Header::absent, .categorical = {"1"}}));
                options.predicting = true;
                return options;
              }())
            .rows == 2);
  CHECK(holds(message("a,b,y\n1,2,3\n", like(bare)), "field 1 is not a number"));
  CHECK(holds(parse("1,5,3\n", like(named)).warnings[0],
              "this table names no columns: they are taken by their places"));
}

TEST_CASE("large numbers keep their differences", "[table]") {
  std::string text = "t,x,y\n", sparse;
  for (int i = 0; i < 50; ++i) {
    const std::string t = std::to_string(1'700'000'000 + i * 7 % 50), y = std::to_string(1'600'000'000 + i);
    text += t + ",0." + std::to_string(i % 10) + "," + y + "\n";
    sparse += y + " 1:" + t + " 2:" + std::to_string(i % 3) + "\n";
  }
  for (const std::string& each : {text, sparse}) {
    const Dataset data = parse(each);
    for (Index i = 0; i < 50; ++i) {
      CHECK(row(data, i)[0] == 1'700'000'000.0 + static_cast<double>(i * 7 % 50));
      CHECK(label(data, i) == 1'600'000'000.0 + static_cast<double>(i));
    }
    CHECK(data.features().offset(1) == 0.0);
    CHECK(data.warnings.empty());
  }
  // Milliseconds, with a zero for a clock that was never set, and one value only.
  std::string mixed;
  for (int i = 0; i < 40; ++i) mixed += (i == 3 ? "0" : std::to_string(1'700'000'000'000 + i)) + ",7,1\n";
  const Dataset data = parse(mixed);
  CHECK(std::fabs(row(data, 3)[0]) < 1e5);  // 24 bits of the distance, as for any value
  CHECK(row(data, 39)[0] == 1'700'000'000'039.0);
  CHECK(data.features().offset(1) == 0.0);
  // What float32 holds stays as it is.
  CHECK(parse("16777215,1\n16777214,2\n16777213,3\n").offsets == nullptr);
  CHECK(parse("0.1,1\n0.7,2\n0.3,3\n").offsets == nullptr);
}

TEST_CASE("what float32 cannot tell apart even without an offset is a warning that names the column",
          "[table]") {
  std::string text = "id,x,y\n", huge = "id,y\n";
  for (int i = 0; i < 60; ++i) {
    // Two far clusters of numbers that differ little: no one offset serves both.
    const long base = i % 2 == 0 ? 0 : 4'000'000'000;
    text += std::to_string(1'000'000'000 + base + i) + "," + std::to_string(i % 7) + "," +
            std::to_string(i % 5) + "\n";
    huge += "900719925474099" + std::to_string(100 + i) + "," + std::to_string(i % 5) + "\n";
  }
  const Dataset data = parse(text);
  REQUIRE(data.warnings.size() == 1);
  CHECK(holds(data.warnings[0], "id: float32 cannot tell apart"));
  CHECK(holds(parse(huge).warnings[0], "field 1 (\"id\") has whole numbers beyond 2^53"));
}

TEST_CASE("missing cells are refused, left out, filled or flagged, and counted", "[table]") {
  const char* text = "a,b,y\n1,2,1\n,NA,2\n3,6,3\n5,nan,4\n";
  CHECK(
      message("a,b,y\n1,2,1\n,NA,2\n3,6,3\n") ==
      "f:3:1: field 1 (\"a\") is missing: expected a value, or LoadOptions::missing (--missing drop, mean or "
      "indicator), got 2 missing cells (\"a\": 1, \"b\": 1)");
  LoadOptions options;
  options.missing = Missing::drop;
  const Dataset dropped = parse(text, options);
  CHECK(dropped.rows == 2);
  CHECK(row(dropped, 1) == Row{3, 6});
  CHECK(label(dropped, 1) == 3);
  CHECK(dropped.warnings[0] ==
        "3 missing cells (\"a\": 1, \"b\": 2), the first in line 3: their rows are left out");

  options.missing = Missing::mean;
  const Dataset filled = parse(text, options);
  CHECK(row(filled, 1) == Row{3, 4});
  CHECK(row(filled, 3) == Row{5, 4});
  CHECK(holds(filled.warnings[0], "3 missing cells"));

  options.missing = Missing::indicator;
  const Dataset flagged = parse(text, options);
  CHECK(flagged.column_names() == Names{"a", "a is missing", "b", "b is missing"});
  CHECK(row(flagged, 1) == Row{3, 1, 4, 1});
  CHECK(row(flagged, 0) == Row{1, 0, 2, 0});

  // Another table is filled with the training table's means; rows that a test leaves out are kept to be predicted.
  const char* other = "a,b,y\n,8,1\n9,,2\n";
  CHECK(row(parse(other, like(filled)), 0) == Row{3, 8});
  CHECK(row(parse(other, like(flagged)), 1) == Row{9, 0, 4, 1});
  CHECK(holds(message(other, like(dropped)), "no rows are left"));
  CHECK(row(parse(other, like(dropped, true)), 0) == Row{3, 8});
  const Dataset complete = parse("a,b,y\n1,2,1\n3,4,2\n");
  CHECK(holds(message(other, like(complete)),
              "field 1 (\"a\") is missing: expected a value, as the training table"));

  // A row without a label teaches nothing.
  options.missing = Missing::mean;
  const Dataset unlabelled = parse("a,y\n1,1\n2,\n3,3\n", options);
  CHECK(unlabelled.rows == 2);
  CHECK(holds(unlabelled.warnings[0], "1 missing label"));
  CHECK(holds(message("a,y\n1,1\n2,\n"), "label (field 2, \"y\") is missing"));
  CHECK(holds(message("a,y\n1,1\ninf,2\n", options), "is not finite"));
}

TEST_CASE("text columns become a feature for each text", "[table]") {
  LoadOptions options;
  options.categorical = {"city"};
  const Dataset train = parse("city,x,y\nChur,1,1\n\"Bern, BE\",2,2\nChur,3,3\nAu,4,4\n", options);
  CHECK(train.column_names() == Names{"city=Au", "city=Bern, BE", "city=Chur", "x"});
  CHECK(row(train, 0) == Row{0, 0, 1, 1});
  CHECK(row(train, 1) == Row{0, 1, 0, 2});
  const Dataset test = parse("x,city,y\n5,Au,1\n6,Genf,2\n7,Genf,3\n", like(train));
  CHECK(row(test, 0) == Row{1, 0, 0, 5});
  CHECK(row(test, 1) == Row{0, 0, 0, 6});
  CHECK(test.warnings[0] ==
        "2 unseen texts (\"city\": 2), the first in line 3: training has not met it: read as none of its "
        "categories");
  CHECK(holds(message("city,x,y\n,1,1\n", like(train)), "is missing"));
  options.missing = Missing::mean;
  const Dataset missing = parse("city,x,y\nChur,1,1\n,2,2\n", options);
  CHECK(missing.column_names() == Names{"city is missing", "city=Chur", "x"});
  CHECK(row(missing, 1) == Row{1, 0, 2});
  CHECK(row(parse("city,x,y\n,1,1\n", like(missing)), 0) == Row{1, 0, 1});
  CHECK(holds(message("city,x,y\nChur,1,1\n"),
              "is not a number: expected a number, or LoadOptions::categorical"));
  CHECK(holds(message("day,x,y\n2024-05-01,1,1\n"), "--ignore leaves a column out"));
}

TEST_CASE("labels that are text are classes", "[table]") {
  const Dataset train = parse("x,y\n1,yes\n2,no\n3,yes\n");
  CHECK(train.schema->classes == Names{"no", "yes"});
  CHECK((label(train, 0) == 1 && label(train, 1) == 0));
  CHECK(label(parse("y,x\nno,1\n", like(train)), 0) == 0);
  CHECK(holds(message("y,x\nmaybe,1\n", like(train)), "is of no class that training has seen"));
  CHECK(std::isnan(parse("y,x\n,1\n", like(train, true)).labels[0]));
  CHECK(holds(message("x,y\n1,2$\n3,4\n"), "is not a number"));  // a number with something wrong in it
}

TEST_CASE("columns are chosen by name, number, range or pattern", "[table]") {
  const char* text = "id,t_1,t_2,u,day,y\n7,1,2,3,2024-01-01,4\n8,5,6,7,2024-01-02,8\n";
  LoadOptions options;
  options.ignore = {"day", "id"};
  CHECK(parse(text, options).column_names() == Names{"t_1", "t_2", "u"});
  options.ignore = {"1", "5"};
  CHECK(parse(text, options).column_names() == Names{"t_1", "t_2", "u"});
  options.ignore = {"d*", "?d"};
  CHECK(parse(text, options).column_names() == Names{"t_1", "t_2", "u"});
  options.ignore = {};
  options.use = {"t_*"};
  CHECK(parse(text, options).column_names() == Names{"t_1", "t_2"});
  options.use = {"2-4"};
  CHECK(row(parse(text, options), 1) == Row{5, 6, 7});
  options.use = {"u", "y"};
  options.label = "t_1";
  CHECK(parse(text, options).column_names() == Names{"u", "y"});
  options = {};
  options.ignore = {"day"};
  options.id = "id";
  const Dataset data = parse(text, options);
  CHECK(data.ids == Names{"7", "8"});
  CHECK(data.column_names() == Names{"t_1", "t_2", "u"});
  options.ignore = {"dya"};
  CHECK(message(text, options) ==
        "f:1:1: LoadOptions::ignore (--ignore) names no column: expected one of \"id\", \"t_1\", \"t_2\", "
        "\"u\", "
        "\"day\", \"y\", "
        "got \"dya\"");
  options.ignore = {"4-9"};
  CHECK(holds(message(text, options), "out of range: expected 1 to 6"));
  options.ignore = {"*"};
  CHECK(holds(message(text, options), "no column is left beside the label"));
  // The label is the last column that is left.
  options.ignore = {"y", "day"};
  CHECK(parse(text, options).label_name() == "u");
}

TEST_CASE("tables as other programs write them", "[table]") {
  // An index of pandas.
  const Dataset indexed = parse(",a,y\n0,1,2\n1,3,4\n");
  CHECK(holds(indexed.warnings[0],
              "column 1 has no name: when it numbers the rows, it is no feature (--ignore 1"));
  CHECK(holds(parse("Unnamed: 0,a,y\n0,1,2\n1,3,4\n").warnings[0], "column 1 has no name"));
  // Numbers for names.
  const Dataset numbers = parse("1100,1102,1104\n1.5,2.5,3.5\n");
  CHECK(numbers.rows == 2);
  CHECK(holds(numbers.warnings[0], "line 1 counts 1100, 1102, ... 1104 and was read as a row"));
  LoadOptions options;
  options.header = Header::present;
  CHECK(parse("1100,1102,1104\n1.5,2.5,3.5\n", options).column_names() == Names{"1100", "1102"});
  // A separator behind every line, or behind the rows only.
  CHECK(row(parse("a;b;y;\n1;2;3;\n4;5;6;\n"), 1) == Row{4, 5});
  CHECK(row(parse("a,b,y\n1,2,3,\n4,5,6,\n"), 1) == Row{4, 5});
  CHECK(holds(message("a,b,y\n1,2,3\n4,5,6,\n"), "row is of another length"));
  CHECK(holds(message("a;b;y;\n1;2;3;4\n"), "row is of another length"));
  // Decimal commas.
  options = {};
  options.decimal = ',';
  CHECK(row(parse("a;y\n1,5;2\n-2,25;3\n", options), 1) == Row{-2.25});
  CHECK(holds(message("a;y\n1.5;2\n", options), "has a decimal point: expected a decimal comma"));
  CHECK(holds(message("a,y\n1,5\n", options), "a decimal comma needs another separator"));
  // Comments at the top are a title, later ones may be rows.
  CHECK(parse("# title\na,y\n1,2\n").warnings.empty());
  CHECK(holds(parse("a,y\n1,2\n#3,4\n").warnings[0],
              "1 line that starts with # behind the first row was skipped"));
}

TEST_CASE("what looks like a table without names, and is one with them", "[table]") {
  const Dataset numbers = parse("2,3,1,4\n1.5,2,3,4\n5,6,7,8\n", {.header = Header::present});
  const Dataset other =
      parse("1,3,2,4\n3,2,1.5,4\n", like(numbers));  // its names are those of the training table
  CHECK(other.rows == 1);
  CHECK(row(other, 0) == Row{1.5, 2, 3});
  CHECK(
      holds(parse("#a,b,y\n1,5,3\n").warnings[0], "was skipped as a comment, though it has as many fields"));
  CHECK(holds(message("a,b\r1,2\r3,4\r"), "carriage return inside a line"));
  // Names that several columns have.
  const Dataset twice = parse("a,a,y\n1,5,11\n2,3,8\n");
  CHECK(twice.column_names() == Names{"a", "a (2)"});
  CHECK(holds(twice.warnings[0], "several columns are named \"a\""));
  CHECK(row(parse("y,a,a\n0,7,8\n", like(twice)), 0) == Row{7, 8});
  CHECK(holds(message("a,y\n1,1\n", like(twice)), "columns named \"a (2)\""));
  // A blank line is no row, not even of one column.
  const Dataset one = parse("b,y\n1,1\n2,2\n", {.missing = Missing::mean});
  CHECK(holds(load_csv_text("b\n1\n\n3\n", like(one, true)).warnings[0], "1 blank line was skipped"));
  // LIBSVM indices count as they did in training.
  const Dataset zero = parse("1 0:1 2:2\n2 1:3\n", {.first_index = 0});
  CHECK(row(parse("1 1:5 2:6\n", like(zero)), 0) == Row{0, 5, 6});
  CHECK(holds(parse("1 1:5\n#2 1:6\n").warnings[0], "1 line that starts with #"));
}

TEST_CASE("quoted fields go on in the next line, with any number of threads", "[table]") {
  LoadOptions options;
  options.categorical = {"note"};
  const Dataset data = parse("note,x,y\n\"one\ntwo\",1,2\n\"a \"\"b\"\"\n\n,c\",3,4\nplain,5,6\n", options);
  CHECK(data.rows == 3);
  CHECK(data.column_names() == Names{"note=a \"b\"\n\n,c", "note=one\ntwo", "note=plain", "x"});
  CHECK(holds(message("note,x,y\n\"one\ntwo\",1,2\n\"a\nb\",z,4\n", options),
              "f:5:4: field 2 (\"x\") is not a number"));
  CHECK(holds(message("note,x,y\n\"one,1,2\n3,4,5\n", options), "f:2:1: quoted field does not end"));
  CHECK(parse("\"first\nname\",y\n1,2\n").column_names() == Names{"first\nname"});

  std::string text = "note,x,y\n";
  for (int i = 0; i < 60'000; ++i)
    text += (i % 1000 == 0 ? "\"line " + std::to_string(i % 7) + "\n7,8,9\n\""
                           : "short " + std::to_string(i * 31 % 11)) +
            "," + std::to_string(i % 13) + "," + std::to_string(i * 7 % 10) + "\n";
  const Dataset one = parse(text, options);
  for (const int threads : {2, 3}) {
    options.threads = threads;
    const Dataset many = parse(text, options);
    CHECK(many.rows == one.rows);
    CHECK(many.column_names() == one.column_names());
    CHECK(std::equal(one.values.begin(), one.values.end(), many.values.begin()));
    CHECK(std::equal(one.labels.begin(), one.labels.end(), many.labels.begin()));
  }
}

TEST_CASE("threads find the same categories, missing cells and classes", "[table]") {
  std::string text = "city,a,b,y\n";
  for (int i = 0; i < 50'000; ++i)
    text += "town " + std::to_string(i * 17 % 23) + "," + (i % 997 == 5 ? "" : std::to_string(i % 19)) + "," +
            std::to_string(1'700'000'000 + i % 90) + (i * 13 % 31 < 15 ? ",yes\n" : ",no\n");
  LoadOptions options;
  options.categorical = {"city"};
  options.missing = Missing::indicator;
  const Dataset one = parse(text, options);
  CHECK(one.cols == 23 + 3);
  CHECK(holds(one.warnings[0], "the first in line 7"));
  options.threads = 3;
  const Dataset many = parse(text, options);
  CHECK(many.warnings == one.warnings);
  CHECK(many.schema->names == one.schema->names);
  CHECK(many.schema->classes == one.schema->classes);
  CHECK(std::equal(one.values.begin(), one.values.end(), many.values.begin()));
  CHECK(std::equal(one.labels.begin(), one.labels.end(), many.labels.begin()));
  options = {};
  options.categorical = {"city"};
  const std::string told = message(text, options);
  CHECK(holds(told, "f:7:"));
  CHECK(holds(told, "51 missing cells"));
  options.threads = 3;
  CHECK(message(text, options) == told);
}

TEST_CASE("LIBSVM: blanks behind colons, query ids, indices from 0, and unseen ones", "[table]") {
  CHECK(row(parse("1 1: .5 3:\t2\n"), 0) == Row{0.5, 0, 2});
  const Dataset ranked = parse("1 qid:3 2:1\n2 qid:4 1:1\n");
  CHECK(row(ranked, 0) == Row{0, 1});
  CHECK(ranked.warnings[0] == "query ids (qid:) are passed over, in 2 lines");
  LoadOptions options;
  options.first_index = 0;
  CHECK(row(parse("1 0:5 2:6\n", options), 0) == Row{5, 0, 6});
  const Dataset train = parse("1 1:1 2:2\n2 1:3\n");
  const Dataset test = parse("1 1:4 9:5\n2 2:6\n3 7:1 2:8\n", like(train));
  CHECK(test.cols == 2);
  CHECK(row(test, 0) == Row{4, 0});
  CHECK(row(test, 2) == Row{0, 8});
  CHECK(holds(test.warnings[0], "2 lines have a feature index beyond the 2 features of the training table"));
}
