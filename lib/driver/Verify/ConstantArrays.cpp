//===- ConstantArrays.cpp - constants as a call gives them ----------------===//
#include "lib/driver/Verify/ConstantArrays.h"

#include "lib/driver/Verify/Random.h"

#include <bit>

using namespace kvc;
using namespace kvc::verify;

static const spec::Constant &constantOf(const CompiledStore &store,
                                        llvm::StringRef name) {
  return *llvm::find_if(
      store.spec->attend.constants,
      [&](const spec::Constant &constant) { return constant.name == name; });
}

static uint32_t wordOf(const spec::Constant &constant, double value) {
  return constant.type == spec::ExprType::Int
             ? std::bit_cast<uint32_t>(int32_t(value))
             : std::bit_cast<uint32_t>(float(value));
}

ConstantArrays::ConstantArrays(const CompiledStore &store, size_t sequences)
    : store(store) {
  for (const auto &[name, values] : *store.given) {
    const spec::Constant &constant = constantOf(store, name);
    std::vector<uint32_t> &to = words.emplace_back();
    to.resize(constant.given * (constant.perSequence ? sequences : 1));
    for (size_t i = 0; i < to.size(); ++i)
      to[i] = wordOf(constant, values[i % values.size()]);
  }
  for (std::vector<uint32_t> &array : words)
    arrays.push_back(array.data());
}

void ConstantArrays::setRows(llvm::ArrayRef<int64_t> rows) {
  for (auto [at, entry] : llvm::enumerate(*store.given)) {
    const auto &[name, values] = entry;
    const spec::Constant &constant = constantOf(store, name);
    if (!constant.perSequence)
      continue;
    uint32_t *to = words[at].data();
    for (int64_t row : rows)
      for (unsigned i = 0; i < constant.given; ++i)
        *to++ = wordOf(constant, values[row * constant.given + i]);
  }
}

void ConstantArrays::lend(Lent &lent) const {
  for (const std::vector<uint32_t> &array : words)
    lent.read(array.data(), array.size() * sizeof(uint32_t));
}

std::shared_ptr<const reference::GivenConstants>
verify::drawConstants(const spec::Attend &attend) {
  auto given = std::make_shared<reference::GivenConstants>();
  for (const spec::Constant &constant : attend.constants) {
    if (!constant.given)
      continue;
    Random random(1, constant.given, 'C');
    bool isInt = constant.type == spec::ExprType::Int;
    auto integer = [&]() -> double {
      if (random.percent(40))
        return random.range(0, 1);
      if (random.percent(5))
        return random.percent(50) ? INT32_MIN : INT32_MAX;
      return random.range(-3, random.percent(80) ? 64 : 640);
    };
    size_t count = constant.given * (constant.perSequence ? kConstantRows : 1);
    std::vector<double> &values = (*given)[constant.name];
    for (size_t i = 0; i < count; ++i)
      values.push_back(isInt ? integer() : random.range(-64, 96) / 32.);
  }
  return given;
}
