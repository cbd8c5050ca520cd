//! What no answer tells: panics anywhere in the process, and its memory.

use parking_lot::Mutex;
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

static PANICS: AtomicUsize = AtomicUsize::new(0);
static LAST: Mutex<String> = Mutex::new(String::new());

/// From now on panics of any thread are counted: the server survives its own, so nobody else would notice.
pub fn watch_panics() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            *LAST.lock() = info.to_string();
            before(info);
        }));
    });
}

/// Panics so far.
pub fn panics() -> usize {
    PANICS.load(Ordering::SeqCst)
}

/// The words of the last one.
pub fn last_panic() -> String {
    LAST.lock().replace('\n', " ")
}

/// The most memory that the process ever had, in bytes; 0 where the system does not tell.
pub fn peak_bytes() -> usize {
    status("VmHWM:")
}

/// The memory that the process has, in bytes; 0 where the system does not tell.
pub fn resident_bytes() -> usize {
    status("VmRSS:")
}

fn status(name: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kib| kib.trim().parse().ok());
    kib.map_or(0, |kib: usize| kib * 1024)
}
