//===- Races.cpp - who read and wrote memory ------------------------------===//
#include "lib/base/Simt/Races.h"

#include <algorithm>
#include <bit>

using namespace kvc::simt;

void Races::reset(size_t bytes) {
  // Pages are cleared when they are first used again.
  ++era;
  dense.resize((bytes + (1 << kPageBits) - 1) >> kPageBits);
  if (sparse.size() > kMostPages)
    sparse.clear();
  last = nullptr;
  lastNumber = ~uintptr_t(0);
  nodes.clear();
  freeNodes = kNone;
}

Races::Page &Races::page(uintptr_t number) {
  Page *page;
  if (number < dense.size()) {
    page = &dense[number];
  } else if (number == lastNumber) {
    return *last;
  } else {
    page = last = &sparse[number];
    lastNumber = number;
  }
  if (page->era != era) {
    page->era = era;
    page->shift = kCellBits;
    page->cells.assign((1 << kPageBits) >> kCellBits, Cell());
  }
  return *page;
}

/// Gives the page smaller cells, each with the history of the one it was in.
void Races::refine(Page &page, unsigned shift) {
  std::vector<Cell> cells((1 << kPageBits) >> shift);
  for (size_t i = 0; i < cells.size(); ++i) {
    const Cell &from = page.cells[(i << shift) >> page.shift];
    cells[i] = {from.writer, from.reader, kNone};
    for (uint32_t node = from.more; node != kNone; node = nodes[node].next)
      cells[i].more = newNode(nodes[node].reader, cells[i].more);
  }
  page.cells = std::move(cells);
  page.shift = shift;
}

uint32_t Races::newNode(const Access &reader, uint32_t next) {
  if (freeNodes == kNone) {
    nodes.push_back({reader, next});
    return uint32_t(nodes.size() - 1);
  }
  uint32_t node = freeNodes;
  freeNodes = nodes[node].next;
  nodes[node] = {reader, next};
  return node;
}

/// Calls visit(cell, address) for the cells of [at, at + bytes), until one
/// gives false.
template <typename Visit>
bool Races::visit(uintptr_t at, uint32_t bytes, Visit visit) {
  unsigned needed = unsigned(std::countr_zero(at | bytes | 1 << kCellBits));
  for (uintptr_t end = at + bytes; at < end;) {
    Page &here = page(at >> kPageBits);
    if (here.shift > needed)
      refine(here, needed);
    uintptr_t pageEnd = ((at >> kPageBits) + 1) << kPageBits;
    for (; at < std::min(end, pageEnd); at += uintptr_t(1) << here.shift) {
      size_t index = (at & ((1 << kPageBits) - 1)) >> here.shift;
      if (!visit(here.cells[index], at))
        return false;
    }
  }
  return true;
}

void Races::addReader(Cell &cell, const Accessor &accessor, const Access &as) {
  // Lanes of a warp are one reader while their clocks agree.
  auto merge = [&](Access &reader) {
    if (reader.clock != as.clock || reader.actor != as.actor ||
        reader.cta != as.cta)
      return false;
    reader.lanes |= as.lanes;
    return true;
  };
  // A read that is over for the accessor is over for whoever waits for the
  // accessor; but who waits for its copy need not have waited for the accessor.
  bool itself = as.actor == accessor.access.actor;
  auto replace = [&](Access &reader) {
    if (reader.clock && !(itself && accessor.follows(reader)))
      return false;
    reader = as;
    return true;
  };
  if (merge(cell.reader))
    return;
  for (uint32_t node = cell.more; node != kNone; node = nodes[node].next)
    if (merge(nodes[node].reader))
      return;
  if (replace(cell.reader))
    return;
  for (uint32_t node = cell.more; node != kNone; node = nodes[node].next)
    if (replace(nodes[node].reader))
      return;
  cell.more = newNode(as, cell.more);
}

bool Races::read(uintptr_t at, uint32_t bytes, const Accessor &accessor,
                 const Access &as, Race &race) {
  return visit(at, bytes, [&](Cell &cell, uintptr_t where) {
    if (!accessor.follows(cell.writer)) {
      race = {where, cell.writer, true};
      return false;
    }
    addReader(cell, accessor, as);
    return true;
  });
}

bool Races::checkWrite(Cell &cell, uintptr_t at, const Accessor &accessor,
                       Race &race) {
  if (!accessor.follows(cell.writer)) {
    race = {at, cell.writer, true};
    return false;
  }
  if (!accessor.follows(cell.reader)) {
    race = {at, cell.reader, false};
    return false;
  }
  for (uint32_t node = cell.more; node != kNone; node = nodes[node].next)
    if (!accessor.follows(nodes[node].reader)) {
      race = {at, nodes[node].reader, false};
      return false;
    }
  return true;
}

bool Races::write(uintptr_t at, uint32_t bytes, const Accessor &accessor,
                  const Access &as, Race &race) {
  return visit(at, bytes, [&](Cell &cell, uintptr_t where) {
    if (!checkWrite(cell, where, accessor, race))
      return false;
    cell.writer = as;
    cell.reader = Access();
    while (cell.more != kNone) {
      uint32_t node = cell.more;
      cell.more = nodes[node].next;
      nodes[node].next = freeNodes;
      freeNodes = node;
    }
    return true;
  });
}

Access Races::writer(uintptr_t at) {
  const Page &here = page(at >> kPageBits);
  return here.cells[(at & ((1 << kPageBits) - 1)) >> here.shift].writer;
}
