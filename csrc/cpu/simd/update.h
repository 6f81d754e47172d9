// One optimizer step on a slice of a tensor: gradient, weight and state are read once, weight and state rounded once at
// the store. T stores parameter and gradient, W the weight that is updated and its state: T itself, or the float of a
// master. No fused multiply-add and no reordering: the bits are those of the written order.
//
// A Rule has
//   kStates            0, 1 or 2 states of a weight
//   kNative            they are kept in native form
//   kDecayStandsAlone  the decay's part of a change can be told apart from the gradient's
//   coupled()          the decay is added to the gradient
//   change<W>(w, g, decay, step, first, second): what is subtracted from w; leaves in first and second what is stored
#pragma once
#include "cpu/simd/columns.h"
#include "cpu/simd/math.h"
#include "cpu/simd/stochastic.h"
#include "cpu/simd/tables.h"

namespace fp16engine {
namespace {

// ---- native forms ---------------------------------------------------------------------------------------------------

// An average in native form: +-sqrt |x| of a signed one, x^(1/4) of one of squares.
FP16_INLINE f32x16 expand_signed(f32x16 root) { return root * absolute(root); }
FP16_INLINE f32x16 compress_signed(f32x16 v) { return with_sign_of(vsqrt(absolute(v)), v); }
FP16_INLINE f32x16 expand_square(f32x16 root) { return (root * root) * (root * root); }
FP16_INLINE f32x16 compress_square(f32x16 v) { return vsqrt(vsqrt(v)); }

// ---- storing and counting -------------------------------------------------------------------------------------------

FP16_INLINE i32x16 valid(FullLanes) { return -1; }
FP16_INLINE i32x16 valid(FirstLanes lanes) {
    int32_t mask[kLanes];
    for (int i = 0; i < kLanes; i++) mask[i] = i < lanes.count ? -1 : 0;
    return load(mask);
}

// Whether storing `updated` leaves `stored` as it is, whatever the random bits.
template <class W, bool kStochastic>
FP16_INLINE i32x16 unmoved(f32x16 stored, f32x16 updated) {
    if constexpr (kStochastic && sizeof(W) == 2)
        return (round_stochastic<W>(updated, 0u) == stored) & (round_stochastic<W>(updated, 0xffffu) == stored);
    else
        return round_to<W>(updated) == stored;
}

template <class W>
struct Compensated {
    f32x16 weight, rest;
};

// The weight to twice its digits is w + rest, and right on the mean beyond them.
template <class W>
FP16_INLINE Compensated<W> compensated(f32x16 w, f32x16 rest, f32x16 change, u32x16 random) {
    const f32x16 due = rest - change;
    const f32x16 weight = round_to<W>(w + due), taken = weight - w;
    if constexpr (sizeof(W) == 2) return {weight, subtract_stochastic<W>(rest - taken, change, random)};
    return {weight, round_to<W>(due - taken)};
}

template <class W, Rounding kRounding>
FP16_INLINE i32x16 lost(f32x16 w, f32x16 rest, f32x16 change) {
    if constexpr (kRounding == Rounding::kahan) {
        const Compensated<W> low = compensated<W>(w, rest, change, 0u), high = compensated<W>(w, rest, change, ~0u);
        return (low.weight == w) & (low.rest == rest) & (high.rest == rest);
    } else if constexpr (kRounding == Rounding::stochastic && sizeof(W) == 2) {
        return (subtract_stochastic<W>(w, change, 0u) == w) & (subtract_stochastic<W>(w, change, ~0u) == w);
    } else {
        return round_to<W>(w - change) == w;
    }
}

struct Counts {
    i32x16 found[kUpdateCounts] = {};

    FP16_INLINE void add(UpdateCount column, i32x16 changes, i32x16 unchanged) {
        found[column] = found[column] - changes;
        found[column + 1] = found[column + 1] - (changes & unchanged);
    }

    FP16_INLINE void flush(int64_t* counts) const {
        for (int c = 0; c < kUpdateCounts; c++)
            for (int lane = 0; lane < kLanes; lane++) counts[c] += found[c][lane];
    }
};

// ---- the loop -------------------------------------------------------------------------------------------------------

// first, second: state, nullptr where the rule has none
template <Rounding kRounding, bool kCount, class T, class W, class Rule>
FP16_INLINE void update_slice(const cpu::UpdateSlice<T, W> x, W* first, W* second, const Rule rule) {
    constexpr bool kDraws = kRounding != Rounding::nearest && sizeof(W) == 2;
    const bool has_master = static_cast<const void*>(x.weight) != static_cast<const void*>(x.param);
    const bool decays = x.decay != 0.0f, coupled = rule.coupled();
    RandomBits weight_bits(x.step, kWeightStream, x.index), state_bits(x.step, kStateStream, x.index);
    Counts counts;
    for_column_blocks(x.n, [&](int64_t i, auto lanes) FP16_ALWAYS_INLINE {
        const int64_t element = x.first + i;
        const f32x16 w = lanes.get(x.weight + i);
        f32x16 g = lanes.get(x.grad + i) * x.step.grad_scale;
        if (coupled && decays) g = g + x.decay * w;
        f32x16 old_first = {}, old_second = {};
        if constexpr (Rule::kStates >= 1) old_first = lanes.get(first + i);
        if constexpr (Rule::kStates >= 2) old_second = lanes.get(second + i);
        f32x16 new_first = old_first, new_second = old_second;
        const f32x16 change = rule.template change<W>(w, g, x.decay, x.step, new_first, new_second);

        HalfWords bits = {};
        if constexpr (Rule::kNative) bits = state_bits.next(element);
        const auto put_state = [&](W* state, u32x16 random, f32x16 old, f32x16 updated, UpdateCount column) {
            if constexpr (kCount)
                counts.add(column, (updated != old) & valid(lanes), unmoved<W, Rule::kNative>(old, updated));
            if constexpr (Rule::kNative) updated = round_stochastic<W>(updated, random);
            lanes.put(state + i, updated);
        };
        if constexpr (Rule::kStates >= 1) put_state(first, bits.own, old_first, new_first, kFirst);
        if constexpr (Rule::kStates >= 2) put_state(second, bits.other, old_second, new_second, kSecond);

        f32x16 rest = {};
        if constexpr (kRounding == Rounding::kahan) rest = lanes.get(x.compensation + i);
        if constexpr (kCount) {
            counts.add(kUpdates, (change != 0.0f) & valid(lanes), lost<W, kRounding>(w, rest, change));
            if (decays && (Rule::kDecayStandsAlone || !coupled)) {
                const f32x16 shrinking = (x.step.lr * x.decay) * w;
                counts.add(kDecays, (shrinking != 0.0f) & valid(lanes), lost<W, kRounding>(w, rest, shrinking));
            }
        }
        u32x16 random = 0u;
        if constexpr (kDraws) {
            const HalfWords drawn = weight_bits.next(element);
            random = (drawn.own << 16) | drawn.other;
        }
        f32x16 updated;
        if constexpr (kRounding == Rounding::kahan) {
            const Compensated<W> next = compensated<W>(w, rest, change, random);
            lanes.put(x.compensation + i, next.rest);
            updated = next.weight;
        } else if constexpr (kDraws) {
            updated = subtract_stochastic<W>(w, change, random);
        } else {
            updated = w - change;
        }
        lanes.put(x.weight + i, updated);
        if (has_master) lanes.put(x.param + i, updated);
    });
    if constexpr (kCount) counts.flush(x.counts);
}

template <bool kValue>
struct Flag {
    static constexpr bool value = kValue;
};

template <class T, class W, class Rule>
FP16_INLINE void update(const cpu::UpdateSlice<T, W>& x, W* first, W* second, const Rule& rule) {
    const auto run = [&](auto counted) {
        constexpr bool kCount = decltype(counted)::value;
        if constexpr (sizeof(T) == sizeof(W)) {  // a master is always rounded to nearest
            if (x.rounding == Rounding::kahan) return update_slice<Rounding::kahan, kCount>(x, first, second, rule);
            if constexpr (sizeof(W) == 2)
                if (x.rounding == Rounding::stochastic)
                    return update_slice<Rounding::stochastic, kCount>(x, first, second, rule);
        }
        update_slice<Rounding::nearest, kCount>(x, first, second, rule);
    };
    if (x.counts)
        run(Flag<true>{});
    else
        run(Flag<false>{});
}

// Only 16-bit state has a native form.
template <class W, class Run>
FP16_INLINE void with_native(bool native, const Run& run) {
    if constexpr (sizeof(W) == 2) {
        if (native) return run(Flag<true>{});
    }
    run(Flag<false>{});
}

}  // namespace
}  // namespace fp16engine
