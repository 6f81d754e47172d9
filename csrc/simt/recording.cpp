#include "simt/recording.h"

#include <utility>

#include "simt/machine.h"

namespace simt {
namespace {

std::shared_ptr<Recording>& open() {
    static std::shared_ptr<Recording> instance;
    return instance;
}

}  // namespace

void Recording::add(const char* name, bool kernel, std::function<void()> work) {
    work_.push_back(std::move(work));
    if (kernel) names_.emplace_back(name);
}

void Recording::replay() const {
    if (recording()) throw Error("a recording was replayed while another one is open");
    for (const auto& work : work_) work();
}

Recording* recording() { return open().get(); }

void begin_recording() {
    if (open()) throw Error("a recording was begun while another one is open");
    open() = std::make_shared<Recording>();
}

std::shared_ptr<Recording> end_recording() {
    if (!open()) throw Error("a recording was ended, but none is open");
    return std::exchange(open(), nullptr);
}

void perform(const char* name, bool kernel, std::function<void()> work) {
    if (Recording* const target = recording())
        target->add(name, kernel, std::move(work));
    else
        work();
}

}  // namespace simt
