#include "step.h"

#include <algorithm>
#include <stdexcept>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#include <cpuid.h>
#endif

namespace revstep {
namespace {

[[noreturn]] void refuse(const std::string& what, int64_t got, const std::string& allowed) {
  throw std::invalid_argument(what + " is " + std::to_string(got) + "; it must be " + allowed);
}

std::string of_slot(const char* name, int64_t b) {
  return std::string(name) + " of slot " + std::to_string(b);
}

std::string range(int64_t first, int64_t count) {
  return std::to_string(first) + ".." + std::to_string(count - 1);
}

void check_network_rows(const Buffers& buf, int64_t b, int32_t lowest) {
  const int32_t cond = buf.cond_row[b], uncond = buf.uncond_row[b];
  if (cond < lowest || cond >= buf.network_rows) {
    refuse(of_slot("cond_row", b), cond, range(lowest, buf.network_rows));
  }
  if (uncond < -1 || uncond >= buf.network_rows) {
    refuse(of_slot("uncond_row", b), uncond, range(-1, buf.network_rows));
  }
}

// The table row that begin_step gives slot b.
int64_t next_row(const Buffers& buf, int64_t b) {
  return int64_t{buf.base[b]} + std::min(buf.counter[b], buf.length[b]);
}

bool is_active(const Buffers& buf, int64_t b) {
  const int32_t current = buf.current[b];
  if (current < 0 || current >= buf.table_rows) {
    refuse(of_slot("current", b), current, range(0, buf.table_rows));
  }
  const float* r = buf.table + int64_t{current} * kColumns;
  if (r[kActive] == 0) return false;
  const auto row = [current] { return " of table row " + std::to_string(current); };
  if (current + 1 >= buf.table_rows) refuse("active row", current, "before the table's last row");
  if (!(r[kStore] >= -1 && r[kStore] < static_cast<float>(buf.histories))) {
    throw std::invalid_argument("history stored into" + row() + " is none of " +
                                range(-1, buf.histories));
  }
  if (!(r[kNoise] >= 0 && r[kNoise] < 16777216.0f)) {
    throw std::invalid_argument("noise index" + row() + " is none of 0..2^24 - 1");
  }
  for (int k = buf.histories; k < kMaxHistory; ++k) {
    if (r[kH1 + k] != 0 || r[kKH1 + k] != 0) refuse("history read" + row(), k, "given");
  }
  check_network_rows(buf, b, 0);
  return true;
}

template <typename T>
T* offset(T* array, int64_t elements) {
  return array ? array + elements : nullptr;
}

RowTask decode(const Buffers& buf, int64_t b) {
  const float* r = buf.table + int64_t{buf.current[b]} * kColumns;
  const int64_t D = buf.elements, start = b * D;
  const int64_t item = buf.dtype == Dtype::f32 ? 4 : 2;
  const int64_t width = (buf.learned_variance ? 2 * D : D) * item;
  const char* output = static_cast<const char*>(buf.output);
  char* net_x = static_cast<char*>(buf.net_x);
  const int64_t cond = buf.cond_row[b], uncond = buf.uncond_row[b];

  RowTask task = {};
  task.elements = D;
  task.x = buf.x + start;
  task.dtype = buf.dtype;
  const float excess = buf.guidance[b] - 1.0f;
  const float weighted = r[kW] * excess;
  task.g_eff = 1.0f + weighted;
  if (r[kPM] != 0 || r[kCM] != 0 || r[kKM] != 0) {
    task.cond = output + cond * width;
    if (uncond >= 0 && task.g_eff != 1) task.uncond = output + uncond * width;
  }
  if (buf.learned_variance && r[kS] != 0) task.variance = output + cond * width + D * item;

  task.x0_out = offset(buf.x0, start);
  task.need_x0 = r[kC0] != 0 || r[kK0] != 0 || buf.x0;
  task.p_x = r[kPX];
  task.p_m = r[kPM];
  task.lo = r[kLo];
  task.hi = r[kHi];
  for (int k = 0; k < 3; ++k) {
    task.next[k] = r[kCX + k];
    task.next[3 + k] = r[kH1 + k];
    task.stored[k] = r[kKX + k];
    task.stored[3 + k] = r[kKH1 + k];
    task.history[k] = offset(buf.history[k], start);
  }
  task.next[6] = r[kS];
  task.slot = static_cast<int32_t>(r[kStore]);
  task.key[0] = static_cast<uint32_t>(buf.seed[b]);
  task.key[1] = static_cast<uint32_t>(buf.seed[b] >> 32);
  task.noise_index = static_cast<uint32_t>(r[kNoise]);
  task.log_beta_span = r[kLogBeta] - r[kLogBetaTilde];
  task.log_beta_tilde = r[kLogBetaTilde];
  if (buf.mask) {
    task.mask = buf.mask + start;
    task.known = buf.known + start;
    task.known_alpha = r[kKnownAlpha];
    task.known_sigma = r[kKnownSigma];
  }
  task.net[0] = net_x + cond * D * item;
  if (uncond >= 0) task.net[1] = net_x + uncond * D * item;
  task.c_in = r[kColumns + kCIn];  // of the next row
  return task;
}

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
bool has_avx2() {
  unsigned a, b, c = 0, d;
  const bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & (1u << 29));
  return f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}
#endif

}  // namespace

void begin_step(const Buffers& buf) {
  for (int64_t b = 0; b < buf.slots; ++b) {
    const int64_t row = next_row(buf, b);
    if (row < 0 || row >= buf.table_rows) {
      refuse(of_slot("table row", b), row, range(0, buf.table_rows));
    }
    check_network_rows(buf, b, -1);
  }
  for (int64_t b = 0; b < buf.slots; ++b) {
    const int64_t row = next_row(buf, b);
    buf.current[b] = static_cast<int32_t>(row);
    buf.counter[b] = buf.counter[b] < buf.length[b] ? buf.counter[b] + 1 : buf.length[b];
    const float time = buf.table[row * kColumns + kTime];
    if (buf.cond_row[b] >= 0) buf.net_t[buf.cond_row[b]] = time;
    if (buf.uncond_row[b] >= 0) buf.net_t[buf.uncond_row[b]] = time;
  }
  if (!buf.net_t2) return;
  for (int64_t b = 0; b < buf.slots; ++b) {
    const float time = buf.table[int64_t{buf.current[b]} * kColumns + kTime2];
    if (buf.cond_row[b] >= 0) buf.net_t2[buf.cond_row[b]] = time;
    if (buf.uncond_row[b] >= 0) buf.net_t2[buf.uncond_row[b]] = time;
  }
}

bool fused_step(const Buffers& buf, const Isa& isa) {
  bool met = false;
  for (int64_t b = 0; b < buf.slots; ++b) is_active(buf, b);
  for (int64_t b = 0; b < buf.slots; ++b) {
    if (buf.table[int64_t{buf.current[b]} * kColumns + kActive] == 0) continue;
    if (isa.row(decode(buf, b))) {
      buf.flags[b] = 1;
      met = true;
    }
  }
  return met;
}

bool row_between(const Buffers& buf, const Between& given, const Isa& isa) {
  if (!is_active(buf, 0)) throw std::invalid_argument("the row is an inactive one");
  RowTask task = decode(buf, 0);
  if (task.next[6] != 0) {
    if (!given.z) throw std::invalid_argument("the row draws noise; none was given");
    if (task.next[5] != 0 || task.stored[5] != 0 || task.slot == 2) {
      throw std::invalid_argument("a row with noise needs the place of the third history");
    }
    task.history[2] = const_cast<float*>(given.z);
    task.next[5] = task.next[6];
    task.next[6] = 0;
  }
  const bool narrow = task.dtype != Dtype::f32;
  task.from = given.from;
  task.x = narrow ? given.copy : static_cast<float*>(given.to);
  task.net[0] = narrow ? given.to : given.copy;
  task.net[1] = nullptr;
  task.c_in = 1;
  return isa.row(task);
}

namespace {

std::vector<const Isa*> find_isas() {
  std::vector<const Isa*> isas;
#if defined(REVSTEP_X86_LEVELS)
  if (has_avx512()) isas.push_back(isa_avx512());
  if (has_avx2()) isas.push_back(isa_avx2());
#endif
  isas.push_back(isa_baseline());
  isas.push_back(isa_scalar());
  return isas;
}

}  // namespace

const std::vector<const Isa*>& available_isas() {
  static const auto isas = find_isas();  // once: cpuid takes 20 us in a virtual machine
  return isas;
}

const Isa& choose_isa(const std::string& name) {
  const auto& isas = available_isas();
  if (name.empty()) return *isas.front();
  std::string names;
  for (const Isa* isa : isas) {
    if (name == isa->name) return *isa;
    names += std::string(names.empty() ? "" : ", ") + isa->name;
  }
  throw std::invalid_argument("instruction set '" + name + "' is not here; this machine has " +
                              names);
}

}  // namespace revstep
