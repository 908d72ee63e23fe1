//! `Memo`: bytes that are made once however many ask for them, even at the same time, the newest of which are kept.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

/// Results by what they are of, within a bound of bytes.
#[derive(Debug)]
pub(super) struct Memo<K> {
    bytes_max: usize,
    kept: Mutex<Kept<K>>,
}

#[derive(Debug)]
struct Kept<K> {
    cells: HashMap<K, Cell>,
    order: VecDeque<K>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Cell {
    made: Arc<OnceLock<Bytes>>,
    /// What it adds to the sum: nothing before it is made.
    bytes: usize,
}

impl<K: Clone + Eq + Hash> Memo<K> {
    pub(super) fn new(bytes_max: usize) -> Self {
        let kept = Kept { cells: HashMap::new(), order: VecDeque::new(), bytes: 0 };
        Self { bytes_max, kept: Mutex::new(kept) }
    }

    /// Returns what is kept under a key; else makes it, while whoever else asks for it waits.
    pub(super) fn get(&self, key: &K, make: impl FnOnce() -> Bytes) -> Bytes {
        let made = self.cell(key);
        if let Some(bytes) = made.get() {
            return bytes.clone();
        }
        let mut is_mine = false;
        let bytes = made.get_or_init(|| {
            is_mine = true;
            make()
        });
        if is_mine {
            self.keep(key, bytes.len());
        }
        bytes.clone()
    }

    fn cell(&self, key: &K) -> Arc<OnceLock<Bytes>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = kept.cells.get(key) {
            return Arc::clone(&cell.made);
        }
        let cell = Cell::default();
        let made = Arc::clone(&cell.made);
        kept.cells.insert(key.clone(), cell);
        kept.order.push_back(key.clone());
        made
    }

    fn keep(&self, key: &K, bytes: usize) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(cell) = kept.cells.get_mut(key) else { return };
        // It may have been forgotten and made again meanwhile.
        let before = std::mem::replace(&mut cell.bytes, bytes);
        kept.bytes = kept.bytes - before + bytes;
        while kept.bytes > self.bytes_max {
            let Some(oldest) = kept.order.pop_front() else { break };
            if let Some(cell) = kept.cells.remove(&oldest) {
                kept.bytes -= cell.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn what_is_remembered_stays_within_its_bound_and_the_newest_stays() {
        let memo = Memo::new(1_000);
        for n in 0..100 {
            memo.get(&n, || vec![0; 90].into());
        }
        let kept = memo.kept.lock().expect("no panic");
        assert!(kept.bytes <= 1_000 && kept.cells.len() == kept.order.len());
        assert_eq!(kept.order.iter().copied().collect::<Vec<_>>(), (89..100).collect::<Vec<_>>());
    }

    #[test]
    fn what_many_ask_for_at_the_same_time_is_made_once() {
        let (memo, made) = (Memo::new(1_000), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for n in 0..10 {
                        let bytes = memo.get(&n, || {
                            made.fetch_add(1, Ordering::Relaxed);
                            Bytes::from_static(b"x")
                        });
                        assert_eq!(bytes, "x");
                    }
                });
            }
        });
        assert_eq!(made.into_inner(), 10);
    }
}
