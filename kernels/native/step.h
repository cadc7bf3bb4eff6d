// The two operations of the kernel contract over all slots: checks, decoding of table rows, and
// the choice of the instruction set. kernels/reference.py says what they mean.
#pragma once
#include <stdint.h>

#include <string>
#include <vector>

#include "row.h"

namespace revstep {

// Columns of the table; kernels/columns.py is their home and a test compares.
enum Column : int {
  kTime = 0, kCIn = 1, kPX = 2, kPM = 3, kLo = 4, kHi = 5, kCX = 6, kCM = 7, kC0 = 8, kH1 = 9,
  kS = 12, kW = 13, kKX = 14, kKM = 15, kK0 = 16, kKH1 = 17, kStore = 20, kNoise = 21,
  kLogBeta = 22, kLogBetaTilde = 23, kKnownAlpha = 24, kKnownSigma = 25, kActive = 26,
  kTime2 = 27,
  kColumns = 32
};

// Addresses and sizes of a StepBuffers.
struct Buffers {
  int64_t slots, elements, network_rows, table_rows;
  const float* table;
  const int32_t *base, *length;
  int32_t *counter, *current;
  const uint64_t* seed;
  const float* guidance;
  const int32_t *cond_row, *uncond_row;
  float* x;
  const void* output;
  void* net_x;
  float* net_t;
  int32_t* flags;
  Dtype dtype;
  bool learned_variance;
  int histories = 0;
  float* history[kMaxHistory] = {};
  float* x0 = nullptr;
  const float* mask = nullptr;
  const float* known = nullptr;
  float* net_t2 = nullptr;
};

// Both throw std::invalid_argument before anything is written if a row, a slot or a network row
// is out of range.
void begin_step(const Buffers& buffers);
bool fused_step(const Buffers& buffers, const Isa& isa);  // whether it met a non-finite m

// Arrays of one call that others own; nothing may overlap `to`.
struct Between {
  const float* from;  // the state
  void* to;           // the next state, of the network's dtype
  float* copy;        // a second place for it, or null
  const float* z;     // the noise, in the place of the third history; null where none is drawn
};

// The row current[0] of the one slot, from state to state; x and net_x of the buffers stay.
bool row_between(const Buffers& buffers, const Between& given, const Isa& isa);

// The instruction sets that this build and this machine have, best first.
const std::vector<const Isa*>& available_isas();

// By name, or the best for the empty name; throws std::invalid_argument.
const Isa& choose_isa(const std::string& name);

}  // namespace revstep
