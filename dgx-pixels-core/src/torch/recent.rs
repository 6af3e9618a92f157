//! The most recently used of something.

/// At most so many items. The one that was not used for longest goes first.
pub(super) struct Recent<T> {
    most: usize,
    /// The last used last.
    items: Vec<T>,
}

impl<T> Recent<T> {
    pub(super) fn new(most: usize) -> Recent<T> {
        Recent { most, items: vec![] }
    }

    /// Takes an item out to use it. It counts as used when it is put back.
    pub(super) fn take(&mut self, is_wanted: impl Fn(&T) -> bool) -> Option<T> {
        let place = self.items.iter().position(is_wanted)?;
        Some(self.items.remove(place))
    }

    /// Drops the item that was not used for longest if there is no room for another one.
    pub(super) fn make_room(&mut self) {
        if self.items.len() >= self.most {
            self.items.remove(0);
        }
    }

    /// Puts an item in that was just used.
    pub(super) fn put(&mut self, item: T) {
        self.make_room();
        self.items.push(item);
    }

    pub(super) fn clear(&mut self) {
        self.items.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_was_not_used_for_longest_goes_first() {
        let mut recent = Recent::new(3);
        (1..=3).for_each(|item| recent.put(item));
        let used = recent.take(|item| *item == 1).unwrap();
        recent.put(used);
        recent.make_room();
        assert_eq!(recent.items, [3, 1]);
        (4..=5).for_each(|item| recent.put(item));
        assert_eq!(recent.items, [1, 4, 5]);
        assert_eq!(recent.take(|item| *item == 3), None);
        recent.clear();
        assert!(recent.items.is_empty());
    }
}
