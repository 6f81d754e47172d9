// Errors of the compiled modules: one exception type, one sentence, mapped to ValueError by the binding.
#pragma once
#include <stdexcept>
#include <string>

namespace fp16engine {

[[noreturn]] inline void fail(const std::string& sentence) { throw std::invalid_argument(sentence); }

inline void expect(bool holds, const std::string& sentence) {
    if (!holds) fail(sentence);
}

}  // namespace fp16engine
