//! Asking the processor for memory before it is used. A thread's legs don't fit into its caches beside
//! what the kernel keeps there for their packets, so each leg is cold when its turn comes: its lines
//! come all at once while another leg is worked on, instead of one after the other.

/// Asks for all of a value's own memory; what it points to is not followed. What a turn doesn't need is
/// better left where it is: asking for all of a leg costs more than waiting for what is missing.
pub fn prefetch<T>(value: &T) {
    prefetch_slice(std::slice::from_ref(value));
}

/// The same for what lies in a row.
pub fn prefetch_slice<T>(values: &[T]) {
    let start = values.as_ptr().cast::<u8>();
    let bytes = size_of_val(values);
    for offset in (0..bytes).step_by(LINE_BYTES) {
        ask_for(start.wrapping_add(offset));
    }
    // It may begin in the middle of a line.
    ask_for(start.wrapping_add(bytes.saturating_sub(1)));
}

#[cfg(target_arch = "x86_64")]
fn ask_for(line: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: SSE is part of x86-64; a hint reads nothing, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
}

#[cfg(not(target_arch = "x86_64"))]
const fn ask_for(_: *const u8) {}

const LINE_BYTES: usize = 64;
