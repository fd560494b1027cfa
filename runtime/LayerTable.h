//===- LayerTable.h - which stores keep a layer -----------------*- C++ -*-===//
//
// Made when a program is loaded, so that no call searches the stores: a model
// may have hundreds of layers in stores that take turns.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_RUNTIME_LAYERTABLE_H
#define KVC_RUNTIME_LAYERTABLE_H

#include "lib/base/Artifact/Manifest.h"

#include <span>

namespace kvc::rt {

class LayerTable {
public:
  /// A store that keeps some heads of a layer, and the place of the layer among
  /// the store's.
  struct Entry {
    uint32_t store = 0, layer = 0;
  };

  /// `manifest` has been checked.
  explicit LayerTable(const artifact::Manifest &manifest);

  /// By store.
  std::span<const Entry> of(uint32_t layer) const {
    return std::span(entries).subspan(begins[layer],
                                      begins[layer + 1] - begins[layer]);
  }
  /// Null if `store` does not keep the layer, or the model has no such layer.
  const Entry *find(uint32_t store, uint32_t layer) const;

private:
  std::vector<uint32_t> begins; ///< of each layer's entries, and their end
  std::vector<Entry> entries;
};

} // namespace kvc::rt

#endif // KVC_RUNTIME_LAYERTABLE_H
