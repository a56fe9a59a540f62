//! The keys of a table, sorted, in one piece of memory.
//! Owns lookup and insertion.
//! Never keeps spare capacity: there are several tables per module.

use super::tree::TableEntry;

/// Keys with their values, sorted by key.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct KeyTable(Vec<(String, TableEntry)>);

type Pair = (String, TableEntry);
type Pairs<'t> = std::iter::Map<std::slice::Iter<'t, Pair>, fn(&Pair) -> (&String, &TableEntry)>;

impl KeyTable {
    pub(crate) const EMPTY: &KeyTable = &KeyTable(Vec::new());

    pub(crate) fn new() -> KeyTable {
        KeyTable::default()
    }

    pub(crate) fn one(key: String, entry: TableEntry) -> KeyTable {
        KeyTable(vec![(key, entry)])
    }

    fn place(&self, key: &str) -> Result<usize, usize> {
        // Keys mostly come in order.
        if self.0.last().is_some_and(|(last, _)| last.as_str() < key) {
            return Err(self.0.len());
        }
        self.0
            .binary_search_by(|(other, _)| other.as_str().cmp(key))
    }

    pub(crate) fn get(&self, key: &str) -> Option<&TableEntry> {
        let place = self.place(key).ok()?;
        self.0.get(place).map(|(_, entry)| entry)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut TableEntry> {
        let place = self.place(key).ok()?;
        self.0.get_mut(place).map(|(_, entry)| entry)
    }

    pub(crate) fn contains_key(&self, key: &str) -> bool {
        self.place(key).is_ok()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Inserts a key, or replaces its value.
    pub(crate) fn insert(&mut self, key: String, entry: TableEntry) {
        match self.place(&key) {
            Ok(place) => self.0[place] = (key, entry),
            Err(place) => self.0.insert(place, (key, entry)),
        }
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<TableEntry> {
        let place = self.place(key).ok()?;
        Some(self.0.remove(place).1)
    }

    pub(crate) fn iter(&self) -> Pairs<'_> {
        self.0.iter().map(|(key, entry)| (key, entry))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &String> {
        self.0.iter().map(|(key, _)| key)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &TableEntry> {
        self.0.iter().map(|(_, entry)| entry)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut TableEntry> {
        self.0.iter_mut().map(|(_, entry)| entry)
    }
}

impl<'t> IntoIterator for &'t KeyTable {
    type Item = (&'t String, &'t TableEntry);
    type IntoIter = Pairs<'t>;

    fn into_iter(self) -> Pairs<'t> {
        self.iter()
    }
}

impl IntoIterator for KeyTable {
    type Item = Pair;
    type IntoIter = std::vec::IntoIter<Pair>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<Pair> for KeyTable {
    fn from_iter<I: IntoIterator<Item = Pair>>(pairs: I) -> KeyTable {
        let mut pairs: Vec<Pair> = pairs.into_iter().collect();
        pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
        pairs.shrink_to_fit();
        KeyTable(pairs)
    }
}
