#pragma once
/// \file
/// Room training: threads that share a pass over some rows, and the memory that is prefetched meanwhile:
/// batches come in random order, which the hardware prefetcher does not follow, but the loop knows the next
/// one.

#include <zipml/base/buffer.hpp>
#include <zipml/base/thread_team.hpp>
#include <zipml/kernels/kernel_policy.hpp>

namespace zipml::inline ZIPML_ABI {

/// Shares the work of a pass among threads such that the result is the same for any number of them: margins
/// by rows; sums of floats by columns, so that one thread forms each; sums of integers by rows, added up
/// after.
class PassTeam {
 public:
  /// `team`, or null for the calling thread alone, must outlive this. Passes over fewer than `worth_sharing`
  /// values are not shared: waking a thread costs more than a short pass (epoch_bench,
  /// threads:2/...).
  PassTeam(ThreadTeam* team, Index worth_sharing)
      : team_(team), worth_sharing_(worth_sharing), ahead_(static_cast<std::size_t>(size())) {}

  int size() const { return team_ != nullptr ? team_->size() : 1; }
  /// Whether a pass over so many values is shared.
  bool shares(Index values) const { return size() > 1 && values >= worth_sharing_; }

  /// work(part, rows): some of `rows` rows of `cols` values for each thread, whole pairs of groups.
  template <class Work>
  void by_rows(Index rows, Index cols, const Work& work) const {
    if (!shares(rows * cols)) return work(0, Share{0, rows});
    team_->run([&](int part) {
      const Share share = share_of(rows, 2 * group_rows, part, size());
      if (share.count > 0) work(part, share);
    });
  }

  /// work(part, columns): some of `cols` columns of `rows` rows for each thread.
  template <class Work>
  void by_columns(Index rows, Index cols, const Work& work) const {
    if (!shares(rows * cols)) return work(0, Share{0, cols});
    team_->run([&](int part) {
      const Share share = share_of(cols, model_padding, part, size());
      if (share.count > 0) work(part, share);
    });
  }

  /// Memory that will be needed after this pass over so many values, for the kernels that work on it to ask
  /// for meanwhile: a share for each thread.
  void look_ahead(const char* begin, Index bytes, Index values);
  /// Memory that the kernels of thread `part` prefetch.
  Ahead* ahead_of(int part) { return &ahead_[static_cast<std::size_t>(part)]; }

  /// The O(d) steps of a batch look ahead as well, a 32nd each: memory is to have work all the time.
  void step_ahead() { ahead_[0].touch(lines_of_a_step_); }

 private:
  ThreadTeam* team_;
  Index worth_sharing_;
  List<Ahead> ahead_;
  Index lines_of_a_step_ = 0;
};

#if ZIPML_DEFINES

ZIPML_FUNCTION void PassTeam::look_ahead(const char* begin, Index bytes, Index values) {
  const int parts = shares(values) ? size() : 1;
  for (int part = 0; part < parts; ++part) {
    const Share share = share_of(bytes, 64, part, parts);
    *ahead_of(part) = {begin + share.first, begin + share.first + share.count};
  }
  lines_of_a_step_ = bytes / parts / (64 * 32);
}

#endif

}  // namespace zipml::inline ZIPML_ABI
