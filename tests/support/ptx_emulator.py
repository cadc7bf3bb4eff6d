"""Runs compiled PTX without a GPU: all threads of a block at once, as numpy arrays.

Enough of PTX for the step's kernels: predicates, global memory with vectors, float32 arithmetic,
16-bit conversions, and branches that a whole block takes alike. Anything else is refused. As on a
GPU, arithmetic gives the one NaN 0x7fffffff.
"""

import re

import numpy as np

_TYPES = {
    "pred": np.bool_, "f32": np.uint32, "f16": np.uint16, "bf16": np.uint16,
    **{f"{k}{n}": np.dtype(f"u{n // 8}").type for k in "bus" for n in (16, 32, 64)},
}  # fmt: skip
_SIGNED = {"s16": np.int16, "s32": np.int32, "s64": np.int64}
_COMPARE = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "lo": np.less, "ls": np.less_equal, "hi": np.greater,
    "hs": np.greater_equal,
}  # fmt: skip
_SPECIAL = re.compile(r"%(tid|ctaid|ntid)\.([xyz])")


class Memory:
    """Arrays at made-up addresses; remembers which were read and written."""

    def __init__(self):
        self.arrays, self.names, self.read, self.written = [], {}, set(), set()

    def address(self, array, name):
        for k, known in enumerate(self.arrays):
            if known is array:
                return (k + 1) << 40
        self.arrays.append(array)
        self.names[len(self.arrays)] = name
        return len(self.arrays) << 40

    def locate(self, addresses, size, used):
        region = int(addresses[0]) >> 40
        assert (addresses >> np.uint64(40) == region).all(), "one access, several arrays"
        offset = (addresses & np.uint64((1 << 40) - 1)).astype(np.int64)
        data = self.arrays[region - 1].reshape(-1).view(np.uint8)
        assert ((offset % size) == 0).all(), f"misaligned access of {size} bytes"
        assert (offset + size <= data.size).all(), f"outside {self.names[region]}"
        used.add(self.names[region])
        return data, offset


def _statements(text):
    text = re.sub(r"//[^\n]*", "", text)
    body = text[text.index("{", text.index(".entry")) + 1 :]
    for statement in re.findall(r"([^;{}]*(?:\{[^{}]*\}[^;{}]*)*);", body):
        label = re.match(r"\s*(\$[\w$]+):\s", statement)
        while label:
            yield label[1], None
            statement = statement[label.end() :]
            label = re.match(r"\s*(\$[\w$]+):\s", statement)
        yield None, " ".join(statement.split())


class Kernel:
    """The one kernel of a PTX text."""

    def __init__(self, ptx):
        self.threads = int(re.search(r"\.reqntid (\d+)", ptx)[1])
        self.parameters = re.findall(r"\.param \.(\w+) .*?(\w+_param_\d+)", ptx)
        self.code, self.labels = [], {}
        for label, statement in _statements(ptx):
            if label:
                self.labels[label] = len(self.code)
            elif statement and not statement.startswith("."):
                match = re.fullmatch(r"(?:@(!?)(%p\d+) )?([\w.]+)\s*(.*)", statement)
                assert match, statement
                negated, predicate, opcode, rest = match.groups()
                operands = re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+", rest)
                self.code.append((predicate, bool(negated), opcode.split("."), operands))

    def run(self, grid, arguments, memory):
        """Run all blocks, one after the other; returns the number of instructions of each.

        ``arguments`` are arrays (passed as addresses) or integers.
        """
        parameters = {}
        for (kind, name), value in zip(self.parameters, arguments, strict=True):
            if isinstance(value, np.ndarray):
                value = memory.address(value, name)
            parameters[name] = np.array(value & 0xFFFFFFFFFFFFFFFF, np.uint64).astype(_TYPES[kind])
        with np.errstate(all="ignore"):
            return [
                _Block(self, parameters, memory, {"x": x, "y": y, "z": 0}).run()
                for y in range(grid[1])
                for x in range(grid[0])
            ]


class _Block:
    def __init__(self, kernel, parameters, memory, ctaid):
        self.kernel, self.parameters, self.memory, self.ctaid = kernel, parameters, memory, ctaid
        self.registers = {}

    def run(self):
        position = count = 0
        while position < len(self.kernel.code):
            predicate, negated, opcode, operands = self.kernel.code[position]
            position += 1
            count += 1
            active = None
            if predicate:
                active = self.registers[predicate] ^ negated
            if opcode[0] in ("bra", "ret"):
                if active is not None and not active.all():
                    assert not active.any(), "a branch divides the block"
                elif opcode[0] == "ret":
                    break
                else:
                    position = self.kernel.labels[operands[0]]
                continue
            if opcode[0] == "ld":
                self._load(opcode, operands, active)
            elif opcode[0] == "st":
                self._store(opcode, operands, active)
            else:
                assert active is None, f"predicated {opcode}"
                self._compute(opcode, operands)
        return count

    def _value(self, operand, dtype):
        """An operand's bits as an array of dtype, [threads] or []."""
        special = _SPECIAL.fullmatch(operand)
        if special:
            kind, axis = special.groups()
            if kind == "tid":
                one = np.arange(self.kernel.threads) if axis == "x" else np.zeros(1)
                return one.astype(dtype)
            return np.array(self.ctaid[axis] if kind == "ctaid" else self.kernel.threads, dtype)
        if operand.startswith("%"):
            return self.registers[operand].astype(dtype)
        if operand[:2] in ("0f", "0F"):
            return np.array(int(operand[2:], 16), np.uint32).astype(dtype)
        bits = 8 * np.dtype(dtype).itemsize
        return np.array(int(operand.rstrip("U"), 0) & ((1 << bits) - 1), np.uint64).astype(dtype)

    def _addresses(self, operand):
        match = re.fullmatch(r"\[\s*(\S+?)\s*(?:\+\s*(-?\d+))?\s*\]", operand)
        base = np.broadcast_to(self._value(match[1], np.uint64), self.kernel.threads)
        return base + np.uint64(int(match[2] or 0) & 0xFFFFFFFFFFFFFFFF)

    def _vector(self, opcode, operand):
        dtype = _TYPES[opcode[-1]]
        names = operand.strip("{} ").replace(" ", "").split(",")
        return dtype, names, np.dtype(dtype).itemsize * len(names)

    def _load(self, opcode, operands, active):
        if opcode[1] == "param":
            self.registers[operands[0]] = self.parameters[operands[1].strip("[]")]
            return
        dtype, names, size = self._vector(opcode, operands[0])
        threads = self.kernel.threads
        active = np.ones(threads, bool) if active is None else np.broadcast_to(active, threads)
        addresses = self._addresses(operands[1])[active]
        out = [np.broadcast_to(self.registers.get(n, dtype(0)), threads).copy() for n in names]
        if addresses.size:
            data, offset = self.memory.locate(addresses, size, self.memory.read)
            got = data[offset[:, None] + np.arange(size)].view(dtype)
            for k, values in enumerate(out):
                values[active] = got[:, k]
        self.registers.update(zip(names, out, strict=True))

    def _store(self, opcode, operands, active):
        dtype, names, size = self._vector(opcode, operands[1])
        threads = self.kernel.threads
        active = np.ones(threads, bool) if active is None else np.broadcast_to(active, threads)
        addresses = self._addresses(operands[0])[active]
        if not addresses.size:
            return
        values = [np.broadcast_to(self._value(n, dtype), threads)[active] for n in names]
        data, offset = self.memory.locate(addresses, size, self.memory.written)
        packed = np.ascontiguousarray(np.stack(values, axis=1)).view(np.uint8)
        data[offset[:, None] + np.arange(size)] = packed

    def _compute(self, opcode, operands):
        target, *sources = operands
        name, kind = opcode[0], opcode[-1]
        if name == "mov" and "{" in target + sources[0]:
            self._repack(target, sources[0])
            return
        if name == "cvt":
            result = self._convert(opcode, sources[0])
        elif name == "selp":
            a, b = (self._value(s, _TYPES[kind]) for s in sources[:2])
            result = np.where(self.registers[sources[2]], a, b)
        elif name == "setp":
            result = self._compare(opcode, sources)
        elif kind == "f32" and name != "mov":
            result = self._arithmetic(opcode, sources)
        else:
            result = self._integer(opcode, sources)
        self.registers[target] = np.asarray(result)

    def _repack(self, target, source):
        if source.startswith("{"):
            parts = source.strip("{} ").replace(" ", "").split(",")
            values = [np.broadcast_to(self.registers[p], self.kernel.threads) for p in parts]
            joined = np.ascontiguousarray(np.stack(values, axis=1))
            self.registers[target] = joined.view(f"u{joined.itemsize * len(parts)}")[:, 0]
            return
        parts = target.strip("{} ").replace(" ", "").split(",")
        whole = np.broadcast_to(self.registers[source], self.kernel.threads)
        pieces = np.ascontiguousarray(whole)[:, None].view(f"u{whole.itemsize // len(parts)}")
        for k, part in enumerate(parts):
            if part != "_":
                self.registers[part] = pieces[:, k].copy()

    def _convert(self, opcode, source):
        to, of = opcode[-2], opcode[-1]
        bits = self._value(source, _TYPES[of])
        if to == "f32" and of in ("f16", "bf16"):
            if of == "f16":
                values = bits.view(np.float16).astype(np.float32)
            else:
                values = (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
            return _gpu_bits(values)
        if of == "f32":
            values = bits.view(np.float32)
            if to == "f16":
                assert "rn" in opcode, opcode
                return np.where(np.isnan(values), 0x7FFF, values.astype(np.float16).view(np.uint16))
            if to == "bf16":
                assert "rn" in opcode, opcode
                high = bits >> np.uint32(16)
                low = bits & np.uint32(0xFFFF)
                up = (low > 0x8000) | ((low == 0x8000) & ((high & np.uint32(1)) == 1))
                rounded = (high + up).astype(np.uint16)
                return np.where(np.isnan(values), 0x7FFF, rounded).astype(np.uint16)
            assert to == "s32", opcode
            assert "rzi" in opcode, opcode
            return values.astype(np.int32).view(np.uint32)
        if of in _SIGNED:
            bits = bits.view(_SIGNED[of])
        if to == "f32":
            assert "rn" in opcode, opcode
            return bits.astype(np.float32).view(np.uint32)
        return bits.astype(_TYPES[to])

    def _compare(self, opcode, sources):
        kind, test = opcode[-1], opcode[1]
        a, b = (self._value(s, _TYPES[kind]) for s in sources)
        if kind == "f32":
            a, b = a.view(np.float32), b.view(np.float32)
            unordered = np.isnan(a) | np.isnan(b)
            if test in ("num", "nan"):
                return unordered == (test == "nan")
            ordered = _COMPARE[test.removesuffix("u") if len(test) == 3 else test](a, b)
            return ordered | unordered if len(test) == 3 else ordered & ~unordered
        if kind in _SIGNED:
            a, b = a.view(_SIGNED[kind]), b.view(_SIGNED[kind])
        return _COMPARE[test](a, b)

    def _arithmetic(self, opcode, sources):
        values = [self._value(s, np.uint32).view(np.float32) for s in sources]
        name = opcode[0]
        if name == "neg":
            return self._value(sources[0], np.uint32) ^ np.uint32(0x80000000)
        assert "rn" in opcode, f"{opcode} is not one IEEE rounding"
        assert "ftz" not in opcode, opcode
        operation = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "sqrt": np.sqrt}[name]
        return _gpu_bits(operation(*values))

    def _integer(self, opcode, sources):
        name, kind = opcode[0], opcode[-1]
        dtype = _TYPES[kind]
        if name in ("mul", "mad") and opcode[1] == "wide":
            wide = {2: np.uint32, 4: np.uint64}[np.dtype(dtype).itemsize]
            a, b = (self._value(s, dtype) for s in sources[:2])
            if kind in _SIGNED:
                signed = np.int64 if wide is np.uint64 else np.int32
                a, b = (v.view(_SIGNED[kind]).astype(signed).view(wide) for v in (a, b))
            product = a.astype(wide) * b.astype(wide)
            return product + self._value(sources[2], wide) if name == "mad" else product
        if name in ("shl", "shr"):
            a, n = self._value(sources[0], dtype), self._value(sources[1], np.uint32)
            if kind in _SIGNED:
                a = a.view(_SIGNED[kind])
            by = n.astype(a.dtype)
            return (a << by if name == "shl" else a >> by).view(dtype)
        values = [self._value(s, dtype) for s in sources]
        if name == "mov":
            return values[0]
        if name == "mul" and opcode[1] == "hi":
            assert kind == "u32", opcode
            product = values[0].astype(np.uint64) * values[1].astype(np.uint64)
            return (product >> np.uint64(32)).astype(np.uint32)
        if name in ("mul", "mad"):
            assert opcode[1] == "lo", opcode
            product = values[0] * values[1]
            return product + values[2] if name == "mad" else product
        if name in ("min", "max"):
            view = _SIGNED.get(kind, dtype)
            operation = np.minimum if name == "min" else np.maximum
            return operation(values[0].view(view), values[1].view(view)).view(dtype)
        if name == "not":
            return ~values[0]
        if name == "neg":
            return dtype(0) - values[0]
        operation = {
            "add": np.add, "sub": np.subtract, "and": np.bitwise_and, "or": np.bitwise_or,
            "xor": np.bitwise_xor,
        }[name]  # fmt: skip
        return operation(*values)


def _gpu_bits(values):
    return np.where(np.isnan(values), np.uint32(0x7FFFFFFF), values.view(np.uint32))
