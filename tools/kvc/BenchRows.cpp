//===- BenchRows.cpp ------------------------------------------------------===//

#include "tools/kvc/BenchRows.h"

#include <algorithm>
#include <cmath>

using namespace kvc;
using namespace kvc::bench;

namespace {

class Runner {
public:
  Runner(std::vector<Subject> &subjects, const Plan &plan, Result &result,
         std::string &error)
      : subjects(subjects), plan(plan), result(result), error(error) {}

  bool run();

private:
  bool addRows();
  bool addRow(Subject &subject, unsigned store, Op op, unsigned context,
              unsigned threads);
  bool allocate();
  bool measureRow(Row &row);
  void measureYards(Row &row, unsigned times);
  bool measureKernel(Row &row, unsigned calls);
  std::vector<Sample> measureUnits(unsigned threads, unsigned times);
  void summarise();

  std::vector<Subject> &subjects;
  const Plan &plan;
  Result &result;
  std::string &error;

  std::vector<Unit> multipliers = units();
  std::unique_ptr<Arena> arena;   ///< never written after its fill
  std::unique_ptr<Arena> written; ///< what appends write
  std::unique_ptr<ReadCeiling> ceiling;
  std::map<unsigned, std::unique_ptr<Team>> teams;
  /// Per number of threads, of each kept reader or unit all samples.
  std::map<unsigned, std::vector<std::vector<Sample>>> reads, multiplies;
};

} // namespace

static std::vector<unsigned> contextsOf(const Plan &plan, Op op) {
  if (!plan.contexts.empty())
    return plan.contexts;
  if (op == Op::Decode)
    return {8192, 32768, 131072};
  return {8192};
}

static unsigned queriesOf(const Plan &plan, Op op) {
  if (op == Op::Decode)
    return 1;
  return plan.queries ? plan.queries : 512;
}

bool Runner::addRow(Subject &subject, unsigned store, Op op, unsigned context,
                    unsigned threads) {
  Program &program = subject.programs[threads];
  if (!program)
    program = load(subject.artifact, threads, subject.loader);
  if (!program) {
    error = "cannot load `" + subject.name + "`: " + kvc_error_text();
    return false;
  }
  Shape shape{context, plan.batch, queriesOf(plan, op)};
  if (shape.queries > context) {
    error = std::to_string(shape.queries) +
            " queries do not fit a context of " + std::to_string(context);
    return false;
  }
  const artifact::StoreInfo &info = subject.manifest.stores[store];
  Row &row = result.rows.emplace_back();
  row.op = op;
  row.spec = subject.name;
  if (subject.manifest.stores.size() > 1)
    row.spec += "." + info.name;
  row.page = info.page;
  row.threads = threads;
  row.shape = shape;
  row.work = std::make_unique<Case>(program.get(), subject.manifest,
                                    *subject.counter, store, op, shape);
  if (!row.work->seesTokens()) {
    error = "the queries of `" + row.spec + "` see none of " +
            std::to_string(context) + " tokens";
    if (!info.constants.empty())
      error += " where each value that a call gives is 0";
    return false;
  }
  return true;
}

bool Runner::addRows() {
  for (Op op : plan.ops)
    for (Subject &subject : subjects)
      for (unsigned store = 0; store < subject.manifest.stores.size(); ++store)
        for (unsigned context : contextsOf(plan, op))
          for (unsigned threads : plan.threads)
            if (!addRow(subject, store, op, context, threads))
              return false;
  return true;
}

/// Two places at least, so that a call never finds what the last one read.
bool Runner::allocate() {
  size_t read = 0, write = 0;
  for (const Row &row : result.rows) {
    size_t &bytes = row.op == Op::Append ? write : read;
    bytes = std::max(bytes, 2 * row.work->footprint());
  }
  arena = std::make_unique<Arena>(read);
  if (write)
    written = std::make_unique<Arena>(write);
  if (arena->valid() && (!written || written->valid()))
    return true;
  error = "not enough memory: these contexts need " +
          std::to_string((read + write) >> 20) + " MiB";
  return false;
}

std::vector<Sample> Runner::measureUnits(unsigned threads, unsigned times) {
  std::unique_ptr<Team> &team = teams[threads];
  if (!team)
    team = std::make_unique<Team>(threads);
  std::vector<Sample> result;
  for (const Unit &unit : multipliers) {
    std::vector<Sample> samples;
    for (unsigned time = 0; time < times; ++time) {
      samples.push_back(measure(*team, unit));
      if (samples.back().rate == 0)
        error = "a multiply unit gave a wrong result";
    }
    result.push_back(joined(samples));
  }
  return result;
}

/// Adds sample i of `samples` to series i of `series`.
static void addSamples(std::vector<std::vector<Sample>> &series,
                       const std::vector<Sample> &samples) {
  series.resize(samples.size());
  for (size_t i = 0; i < samples.size(); ++i)
    series[i].push_back(samples[i]);
}

/// The series with the best median.
static size_t bestOf(const std::vector<std::vector<Sample>> &series) {
  auto median = [&](size_t i) { return spread(ratesOf(series[i])).median; };
  size_t best = 0;
  for (size_t i = 1; i < series.size(); ++i)
    if (median(i) > median(best))
      best = i;
  return best;
}

void Runner::measureYards(Row &row, unsigned times) {
  const bool isMultiplied = row.isMultiplied();
  std::vector<Sample> samples = isMultiplied
                                    ? measureUnits(row.threads, times)
                                    : ceiling->sample(row.threads, times);
  addSamples((isMultiplied ? multiplies : reads)[row.threads], samples);
  row.windows.addYards(samples);
}

bool Runner::measureKernel(Row &row, unsigned calls) {
  Arena &memory = row.op == Op::Append ? *written : *arena;
  long before = interruptionsOfProcess();
  double start = now();
  for (unsigned i = 0; i < calls; ++i)
    if (!row.work->call(memory)) {
      error = "`" + row.spec + "` does not run: ";
      error += *kvc_error_text() ? kvc_error_text() : "its result is no number";
      return false;
    }
  double seconds = (now() - start) / calls;
  double rate = row.amount() / seconds;
  row.windows.addKernel({rate, interruptionsOfProcess() == before ? rate : 0});
  return true;
}

/// Windows are long enough for the clock and short enough that most of them are
/// over before another process gets the core. A kernel whose calls are longer
/// has fewer of them; its yardsticks then take as long as it does, or they
/// alone would get away undisturbed.
bool Runner::measureRow(Row &row) {
  const bool isMultiplied = row.isMultiplied();
  const double shortest = isMultiplied ? 2.5e8 : double(Arena::kRegion);
  const double work = row.amount();
  const double window = std::max(work, shortest);
  auto calls = unsigned(std::ceil(shortest / work));
  auto windows = unsigned(std::clamp(8 * shortest / window, 1.0, 8.0));
  auto times =
      unsigned(std::clamp(window / shortest, 1.0, isMultiplied ? 8. : 32.));
  measureYards(row, times);
  for (unsigned i = 0; i < windows; ++i) {
    if (!measureKernel(row, calls))
      return false;
    measureYards(row, times);
  }
  return true;
}

void Runner::summarise() {
  for (Row &row : result.rows) {
    row.rates = spread(ratesOf(row.windows.kernel()));
    row.fraction = fractionOf(row.windows);
    if (!row.fraction) // prefill, on a CPU with no unit that we know
      continue;
    row.rates = row.fraction->kernel;
    size_t best = row.fraction->best;
    row.yardName = row.isMultiplied() ? multipliers[best].name
                                      : ceiling->kept(row.threads)[best].name;
  }
  for (const auto &[threads, series] : reads) {
    size_t best = bestOf(series);
    result.ceilings.push_back(
        {threads, spread(ratesOf(series[best])), ceiling->naive(threads),
         ceiling->kept(threads)[best].name, ceiling->tried()});
  }
  for (const auto &[threads, series] : multiplies)
    for (size_t i = 0; i < series.size(); ++i)
      result.peaks.push_back(
          {threads, spread(ratesOf(series[i])), multipliers[i].name});
}

bool Runner::run() {
  if (!addRows() || !allocate())
    return false;
  bool reading = std::any_of(result.rows.begin(), result.rows.end(),
                             [](const Row &r) { return !r.isMultiplied(); });
  if (reading)
    ceiling = std::make_unique<ReadCeiling>(*arena, plan.threads);
  // The first round warms code, tables and pages; it does not count.
  for (unsigned rep = 0; rep <= plan.reps; ++rep) {
    if (rep == 1) {
      reads.clear(), multiplies.clear();
      for (Row &row : result.rows)
        row.windows = Windows();
    }
    for (Row &row : result.rows)
      if (!measureRow(row))
        return false;
  }
  if (ceiling && ceiling->broken())
    error = "a reader gave a wrong checksum";
  if (!error.empty())
    return false;
  summarise();
  return true;
}

bool kvc::bench::runRows(std::vector<Subject> &subjects, const Plan &plan,
                         Result &result, std::string &error) {
  return Runner(subjects, plan, result, error).run();
}
