//! Values by key, at most a number of them.

use std::collections::BTreeMap;

/// The values of the keys that were used last. A key in use is kept in any case, and one whose
/// value matters as long as there is another to evict.
#[derive(Debug)]
pub(crate) struct Keyed<T> {
    max: usize,
    /// Returns `true` if a value matters: it differs from that of a key that was never used.
    matters: fn(&T) -> bool,
    by_key: BTreeMap<String, Entry<T>>,
    /// The keys in the order of their last uses.
    by_use: BTreeMap<u64, String>,
    uses: u64,
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    last_use: u64,
    /// The number of calls under way.
    calls: usize,
}

impl<T> Keyed<T> {
    pub(crate) fn new(max: usize, matters: fn(&T) -> bool) -> Self {
        Self { max, matters, by_key: BTreeMap::new(), by_use: BTreeMap::new(), uses: 0 }
    }

    /// Returns the value of a key, if it is known.
    pub(crate) fn get(&self, key: &str) -> Option<&T> {
        self.by_key.get(key).map(|entry| &entry.value)
    }

    /// Begins a call with a key, and returns the key's value.
    pub(crate) fn begin(&mut self, key: &str, new: impl FnOnce() -> T) -> &mut T {
        self.uses += 1;
        if let Some(entry) = self.by_key.get_mut(key) {
            self.by_use.remove(&entry.last_use);
            entry.last_use = self.uses;
        } else {
            self.evict();
            let entry = Entry { value: new(), last_use: self.uses, calls: 0 };
            self.by_key.insert(key.to_owned(), entry);
        }
        self.by_use.insert(self.uses, key.to_owned());
        let Some(entry) = self.by_key.get_mut(key) else { unreachable!("it was inserted") };
        entry.calls += 1;
        &mut entry.value
    }

    /// Ends a call with a key, and returns the key's value.
    pub(crate) fn end(&mut self, key: &str) -> Option<&mut T> {
        let entry = self.by_key.get_mut(key)?;
        entry.calls = entry.calls.saturating_sub(1);
        Some(&mut entry.value)
    }

    /// Forgets that calls are under way.
    pub(crate) fn end_all(&mut self) {
        self.by_key.values_mut().for_each(|entry| entry.calls = 0);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.by_key.iter().map(|(key, entry)| (&**key, &entry.value))
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.by_key.values_mut().map(|entry| &mut entry.value)
    }

    /// Makes room for another key: evicts the least recently used one without a call under way, if
    /// possible one whose value does not matter.
    fn evict(&mut self) {
        if self.by_key.len() < self.max {
            return;
        }
        let idle = self.by_use.iter().filter_map(|(last_use, key)| {
            let entry = self.by_key.get(key).filter(|entry| entry.calls == 0)?;
            Some((*last_use, (self.matters)(&entry.value)))
        });
        let mut oldest = None;
        for (last_use, matters) in idle {
            oldest = oldest.or(Some(last_use));
            if !matters {
                oldest = Some(last_use);
                break;
            }
        }
        let Some(last_use) = oldest else { return };
        if let Some(key) = self.by_use.remove(&last_use) {
            self.by_key.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_key_is_evicted() {
        let mut keyed = Keyed::new(2, |_| false);
        for key in ["a", "b", "a", "c"] {
            *keyed.begin(key, || 0) += 1;
            keyed.end(key);
        }
        assert_eq!(keyed.iter().collect::<Vec<_>>(), [("a", &2), ("c", &1)]);
        assert_eq!(keyed.by_use.len(), 2);
    }

    #[test]
    fn a_key_with_a_call_under_way_is_kept() {
        let mut keyed = Keyed::new(1, |_| false);
        keyed.begin("a", || 1);
        keyed.begin("b", || 2);
        assert_eq!(keyed.get("a"), Some(&1), "there are more keys than allowed for a while");
        keyed.end("a");
        keyed.begin("c", || 3);
        assert_eq!(keyed.iter().collect::<Vec<_>>(), [("b", &2), ("c", &3)]);
        keyed.end_all();
        keyed.begin("d", || 4);
        assert_eq!(keyed.get("b"), None);
    }

    #[test]
    fn a_value_that_matters_is_kept_before_others() {
        let mut keyed = Keyed::new(2, |value| *value > 9);
        for (key, value) in [("a", 10), ("b", 1), ("c", 2), ("d", 11)] {
            keyed.begin(key, || value);
            keyed.end(key);
        }
        assert_eq!(keyed.iter().collect::<Vec<_>>(), [("a", &10), ("d", &11)]);
        // All matter, so the oldest goes.
        keyed.begin("e", || 3);
        assert_eq!(keyed.iter().collect::<Vec<_>>(), [("d", &11), ("e", &3)]);
        // The only other one is in use.
        keyed.begin("f", || 4);
        assert_eq!(keyed.iter().collect::<Vec<_>>(), [("e", &3), ("f", &4)]);
        assert_eq!(keyed.by_use.len(), 2);
    }
}
