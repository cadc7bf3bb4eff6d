// Python's view of the native kernels (kernels/_native.pyi).
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "step.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using nb::c_contig;
using nb::device::cpu;
template <typename T>
using Array = nb::ndarray<T, c_contig, cpu>;

constexpr int64_t kReleaseGil = 1 << 16;  // elements; less work than that costs less than the GIL

template <typename Work>
auto run(int64_t elements, Work work) {
  if (elements < kReleaseGil) return work();
  nb::gil_scoped_release release;
  return work();
}

revstep::Dtype network_dtype(const nb::ndarray<cpu, c_contig>& array) {
  if (array.dtype() == nb::dtype<float>()) return revstep::Dtype::f32;
  if (array.dtype() == nb::dtype<uint16_t>()) return revstep::Dtype::bf16;
  constexpr auto half = nb::dlpack::dtype{uint8_t(nb::dlpack::dtype_code::Float), 16, 1};
  if (array.dtype() == half) return revstep::Dtype::f16;
  throw nb::type_error("net_x must be float32, float16 or uint16 (bfloat16)");
}

// A prepared step: addresses taken once from a validated StepBuffers, which it keeps alive.
class Step {
 public:
  Step(nb::object buffers, const std::string& isa)
      : isa_(revstep::choose_isa(isa)), buffers_(buffers) {
    auto x = take<float>("x");
    auto net_x = nb::cast<nb::ndarray<cpu, c_contig>>(buffers.attr("net_x"), false);
    auto table = take<const float>("table");
    b_.slots = static_cast<int64_t>(x.shape(0));
    b_.elements = static_cast<int64_t>(x.shape(1));
    b_.network_rows = static_cast<int64_t>(net_x.shape(0));
    b_.table_rows = static_cast<int64_t>(table.shape(0));
    b_.dtype = network_dtype(net_x);
    b_.table = table.data();
    b_.x = x.data();
    b_.net_x = net_x.data();
    b_.output = nb::cast<nb::ndarray<cpu, c_contig, nb::ro>>(buffers.attr("output"), false).data();
    b_.base = take<const int32_t>("base").data();
    b_.length = take<const int32_t>("length").data();
    b_.counter = take<int32_t>("counter").data();
    b_.current = take<int32_t>("current").data();
    b_.seed = take<const uint64_t>("seed").data();
    b_.guidance = take<const float>("guidance").data();
    b_.cond_row = take<const int32_t>("cond_row").data();
    b_.uncond_row = take<const int32_t>("uncond_row").data();
    b_.net_t = take<float>("net_t").data();
    b_.flags = take<int32_t>("flags").data();
    b_.learned_variance = nb::cast<bool>(buffers.attr("learned_variance"));
    for (nb::handle q : nb::cast<nb::tuple>(buffers.attr("history"))) {
      b_.history[b_.histories++] = nb::cast<Array<float>>(q, false).data();
    }
    if (!buffers.attr("net_t2").is_none()) b_.net_t2 = take<float>("net_t2").data();
    if (!buffers.attr("x0").is_none()) b_.x0 = take<float>("x0").data();
    if (!buffers.attr("mask").is_none()) {
      b_.mask = take<const float>("mask").data();
      b_.known = take<const float>("known").data();
    }
  }

  void begin() const { revstep::begin_step(b_); }

  bool step() const {
    return run(b_.slots * b_.elements, [this] { return revstep::fused_step(b_, isa_); });
  }

  // Python is entered for the network alone; Ctrl-C ends the run where that is no Python either.
  int64_t steps(const nb::callable& network, int64_t count) const {
    for (int64_t number = 1; number <= count; ++number) {
      begin();
      network();
      if (step()) return number;
      if (PyErr_CheckSignals() != 0) throw nb::python_error();
    }
    return count;
  }

  std::string isa() const { return isa_.name; }
  const revstep::Isa& chosen() const { return isa_; }
  const revstep::Buffers& buffers() const { return b_; }

 private:
  template <typename T>
  Array<T> take(const char* name) const {
    return nb::cast<Array<T>>(buffers_.attr(name), false);
  }

  const revstep::Isa& isa_;
  nb::object buffers_;
  revstep::Buffers b_ = {};
};

// Rows of a table over arrays that others own and that change from call to call, by address: the
// caller answers for them. Checked buffers of one slot give the table, the history and the dtype.
class Rows {
 public:
  Rows(nb::object buffers, const std::string& isa) : step_(buffers, isa), b_(step_.buffers()) {
    if (b_.slots != 1) throw std::invalid_argument("rows run over one slot");
  }

  bool run(int32_t row, uintptr_t from, uintptr_t output, uintptr_t to, uintptr_t copy, uintptr_t z,
           uintptr_t x0) const {
    revstep::Buffers buffers = b_;
    buffers.current = &row;
    buffers.output = reinterpret_cast<const void*>(output);
    buffers.x0 = reinterpret_cast<float*>(x0);
    const revstep::Between given = {
        reinterpret_cast<const float*>(from), reinterpret_cast<void*>(to),
        reinterpret_cast<float*>(copy), reinterpret_cast<const float*>(z)};
    return ::run(b_.elements,
                 [&] { return revstep::row_between(buffers, given, step_.chosen()); });
  }

 private:
  Step step_;
  revstep::Buffers b_;
};

using Normals = nb::ndarray<float, nb::ndim<2>, c_contig, cpu>;
using Keys = nb::ndarray<const uint64_t, nb::ndim<1>, c_contig, cpu>;
using Indices = nb::ndarray<const uint32_t, nb::ndim<1>, c_contig, cpu>;

void normal_fill(Normals out, Keys seed, Indices index, uint32_t stream, const std::string& isa) {
  const auto rows = static_cast<int64_t>(out.shape(0)), D = static_cast<int64_t>(out.shape(1));
  if (static_cast<int64_t>(seed.shape(0)) != rows || static_cast<int64_t>(index.shape(0)) != rows) {
    throw std::invalid_argument("seed and index need one value for each row of out");
  }
  const revstep::Isa& chosen = revstep::choose_isa(isa);
  run(rows * D, [&] {
    for (int64_t b = 0; b < rows; ++b) {
      const uint64_t key = seed.data()[b];
      chosen.normal_fill(out.data() + b * D, D, static_cast<uint32_t>(key),
                         static_cast<uint32_t>(key >> 32), index.data()[b], stream);
    }
  });
}

using Vector = nb::ndarray<float, nb::ndim<1>, c_contig, cpu>;

void triad(Vector a, Vector b, Vector c, float scale) {
  if (a.shape(0) != b.shape(0) || a.shape(0) != c.shape(0)) {
    throw std::invalid_argument("a, b and c must have one length");
  }
  nb::gil_scoped_release release;
  revstep::choose_isa("").triad(a.data(), b.data(), c.data(), scale,
                                static_cast<int64_t>(a.shape(0)));
}

std::vector<std::string> isas() {
  std::vector<std::string> names;
  for (const revstep::Isa* isa : revstep::available_isas()) names.emplace_back(isa->name);
  return names;
}

}  // namespace

NB_MODULE(_native, m) {
  nb::class_<Step>(m, "Step")
      .def(nb::init<nb::object, const std::string&>(), "buffers"_a, "isa"_a = "")
      .def("begin", &Step::begin)
      .def("step", &Step::step)
      .def("steps", &Step::steps, "network"_a, "count"_a)
      .def_prop_ro("isa", &Step::isa);
  nb::class_<Rows>(m, "Rows")
      .def(nb::init<nb::object, const std::string&>(), "buffers"_a, "isa"_a = "")
      .def("run", &Rows::run);
  m.def("normal_fill", &normal_fill, "out"_a.noconvert(), "seed"_a.noconvert(),
        "index"_a.noconvert(), "stream"_a, "isa"_a = "");
  m.def("triad", &triad, "a"_a.noconvert(), "b"_a.noconvert(), "c"_a.noconvert(), "scale"_a);
  m.def("isas", &isas);
}
