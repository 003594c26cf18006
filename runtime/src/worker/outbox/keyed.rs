//! Values by key, at most a number of them.

use std::collections::BTreeMap;

/// The values of the keys that were used last. A key in use is kept in any case.
#[derive(Debug)]
pub(crate) struct Keyed<T> {
    max: usize,
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
    pub(crate) fn new(max: usize) -> Self {
        Self { max, by_key: BTreeMap::new(), by_use: BTreeMap::new(), uses: 0 }
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

    /// Makes room for another key: evicts the least recently used one without a call under way.
    fn evict(&mut self) {
        if self.by_key.len() < self.max {
            return;
        }
        let is_idle = |key: &String| self.by_key.get(key).is_some_and(|entry| entry.calls == 0);
        let idle = self.by_use.iter().find(|(_, key)| is_idle(key));
        let Some((last_use, key)) = idle.map(|(last_use, key)| (*last_use, key.clone())) else {
            return;
        };
        self.by_use.remove(&last_use);
        self.by_key.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_key_is_evicted() {
        let mut keyed = Keyed::new(2);
        for key in ["a", "b", "a", "c"] {
            *keyed.begin(key, || 0) += 1;
            keyed.end(key);
        }
        assert_eq!(keyed.iter().collect::<Vec<_>>(), [("a", &2), ("c", &1)]);
        assert_eq!(keyed.by_use.len(), 2);
    }

    #[test]
    fn a_key_with_a_call_under_way_is_kept() {
        let mut keyed = Keyed::new(1);
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
}
