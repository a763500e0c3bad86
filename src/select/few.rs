//! A map by name that has one entry or two, and of which there are a great many.
//!
//! Owns nothing but its room: a tree's smallest node has place for eleven entries, which for as many units
//! as a cache can hold is most of the memory of a run. In order of the names, each once; saved as a map.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Serialize, Serializer};

use crate::shared::Text;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Few<V>(Vec<(Text, V)>);

impl<V> Few<V> {
    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.as_str().cmp(name))
    }

    pub(super) fn get(&self, name: &str) -> Option<&V> {
        self.place(name).ok().map(|place| &self.0[place].1)
    }

    /// The entry of `name`, which is made where there is none.
    pub(super) fn entry(&mut self, name: &Text) -> &mut V
    where
        V: Default,
    {
        let place = self.place(name).unwrap_or_else(|place| {
            self.0.reserve_exact(1);
            self.0.insert(place, (name.clone(), V::default()));
            place
        });
        &mut self.0[place].1
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<V> {
        self.place(name).ok().map(|place| self.0.remove(place).1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Text, &V)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&Text, &mut V)> {
        self.0.iter_mut().map(|(name, value)| (&*name, value))
    }
}

impl<V> Default for Few<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// Of two entries of one name the last one counts.
impl<V> FromIterator<(Text, V)> for Few<V> {
    fn from_iter<I: IntoIterator<Item = (Text, V)>>(entries: I) -> Self {
        let mut few = Self::default();
        for (name, value) in entries {
            match few.place(&name) {
                Ok(place) => few.0[place].1 = value,
                Err(place) => {
                    few.0.reserve_exact(1);
                    few.0.insert(place, (name, value));
                }
            }
        }
        few
    }
}

impl<V: Serialize> Serialize for Few<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Few<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
            type Value = Few<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Few<V>, A::Error> {
                let entries: Result<Few<V>, A::Error> = std::iter::from_fn(|| map.next_entry().transpose()).collect();
                entries
            }
        }

        deserializer.deserialize_map(Entries(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map_in_order_and_is_saved_as_one(entries: Vec<(String, u8)>, gone: Vec<String>, asked: String) {
            let mut few: Few<u8> = entries.iter().map(|(name, value)| (name.into(), *value)).collect();
            let mut map: BTreeMap<String, u8> = entries.into_iter().collect();
            for name in &gone {
                prop_assert_eq!(few.remove(name), map.remove(name));
            }
            *few.entry(&asked.as_str().into()) = 7;
            map.insert(asked.clone(), 7);
            prop_assert_eq!(few.get(&asked), Some(&7));
            let entries: Vec<(&str, &u8)> = few.iter().map(|(name, value)| (name.as_str(), value)).collect();
            prop_assert!(entries.into_iter().eq(map.iter().map(|(name, value)| (name.as_str(), value))));
            let text = serde_json::to_string(&few).unwrap();
            prop_assert_eq!(&text, &serde_json::to_string(&map).unwrap());
            prop_assert_eq!(serde_json::from_str::<Few<u8>>(&text).unwrap(), few);
        }
    }
}
