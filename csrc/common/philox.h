// Philox4x32-10 (Salmon et al., SC'11), for one thread of the processor or of a GPU.
#pragma once
#include <cstdint>

#include "common/host_device.h"

namespace fp16engine {

struct PhiloxWords {
    uint32_t values[4];
};

// The four random words of a counter; key: low word first.
FP16_HOST_DEVICE PhiloxWords philox(PhiloxWords c, uint64_t key) {
    uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t first = static_cast<uint64_t>(c.values[0]) * 0xD2511F53u,
                       second = static_cast<uint64_t>(c.values[2]) * 0xCD9E8D57u;
        c = {{static_cast<uint32_t>(second >> 32) ^ c.values[1] ^ k0, static_cast<uint32_t>(second),
              static_cast<uint32_t>(first >> 32) ^ c.values[3] ^ k1, static_cast<uint32_t>(first)}};
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c;
}

// Of a counter of 64 bits.
FP16_HOST_DEVICE PhiloxWords philox(uint64_t counter, uint64_t key) {
    return philox(PhiloxWords{{static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), 0u, 0u}}, key);
}

}  // namespace fp16engine
