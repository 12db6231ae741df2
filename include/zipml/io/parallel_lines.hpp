#pragma once
/// \file
/// Room io: the lines of a text, read by several threads. A block of whole lines is cut into a part for each
/// thread; parts that are in order are joined in theirs. Of a block in which anything is wrong nothing is
/// kept: it is read again line by line, so that what is said, and where, does not depend on threads.

#include <algorithm>
#include <atomic>
#include <concepts>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

#include <zipml/base/buffer.hpp>
#include <zipml/base/thread_team.hpp>
#include <zipml/io/line_reader.hpp>
#include <zipml/io/load_options.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// Rows of one format that threads can collect: a fork knows the format and has no rows yet.
template <class R>
concept ForkedRows = requires(R rows, const R& whole, LineReader& reader, const List<const R*>& parts,
                              std::string_view line) {
  R(reader, whole);
  rows.add_line(line);  // throws Error for a line that is wrong
  { whole.accepts(parts) } -> std::same_as<bool>;
  rows.join(std::move(rows), 0l);  // and the number of lines of the input in front of them
};

/// Adds all data lines that are left in `reader` to `rows`. The same rows, or the same Error, for any number
/// of threads. O(text / threads); 2 MiB of text for each thread are in memory at a time.
template <ForkedRows Rows>
void add_lines(LineReader& reader, Rows& rows, const LoadOptions& options, int threads) {
  const auto tell = [&] {
    if (options.progress != nullptr) options.progress->show(reader.bytes_read(), reader.bytes());
  };
  constexpr std::size_t bytes_of_a_part = std::size_t{2} << 20, worth_sharing = std::size_t{1} << 16;
  struct Part {
    Part(const LineReader& whole, std::string_view text, const Rows& format)
        : bytes(text.size()), reader(whole.part(text)), rows(reader, format) {}
    std::size_t bytes;
    LineReader reader;
    Rows rows;
  };
  std::unique_ptr<ThreadTeam> team;
  while (threads > 1) {
    const std::string_view text = reader.lines_ahead(bytes_of_a_part * static_cast<std::size_t>(threads));
    if (text.size() < worth_sharing) break;
    if (!team) team = std::make_unique<ThreadTeam>(threads);
    List<std::unique_ptr<Part>> parts;
    std::size_t begin = 0;
    for (int k = 1; k <= team->size(); ++k) {
      const auto share = static_cast<std::size_t>(std::uint64_t{text.size()} * static_cast<unsigned>(k) /
                                                  static_cast<unsigned>(team->size()));
      const std::size_t end = text.find('\n', (std::max)(share, begin + 1) - 1) + 1;  // text ends with one
      if (begin < text.size())
        parts.push_back(std::make_unique<Part>(reader, text.substr(begin, end - begin), rows));
      begin = begin < text.size() ? end : begin;
    }
    std::atomic<bool> wrong{false};
    team->run([&](int k) {
      if (static_cast<std::size_t>(k) >= parts.size()) return;
      Part& part = *parts[static_cast<std::size_t>(k)];
      try {
        std::string_view line;
        while (!wrong && next_data_line(part.reader, line)) part.rows.add_line(line);
      } catch (const Error&) {
        wrong = true;
      }
    });
    List<const Rows*> all;
    for (const auto& part : parts) all.push_back(&part->rows);
    if (wrong || !rows.accepts(all)) break;
    for (const auto& part : parts) {
      rows.join(std::move(part->rows), reader.line_number());
      reader.pass_over(part->bytes, part->reader);
    }
    tell();
  }
  std::string_view line;
  for (long count = 1; next_data_line(reader, line); ++count) {
    rows.add_line(line);
    if (count % 4096 == 0) tell();
  }
  tell();
}

}  // namespace zipml::inline ZIPML_ABI::detail
