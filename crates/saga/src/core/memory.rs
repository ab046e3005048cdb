//! What a saga remembers, decoded once and kept without its type.

use std::{any::Any, fmt};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use xxhash_rust::xxh3::Xxh3;

/// The user's state of one saga, its type erased.
pub struct Memory(Box<dyn Erased>);

trait Erased: Send + Sync {
    fn clone_box(&self) -> Box<dyn Erased>;
    fn to_json(&self) -> serde_json::Result<Vec<u8>>;
    fn to_value(&self) -> serde_json::Result<Value>;
    fn any(&self) -> &dyn Any;
    fn any_mut(&mut self) -> &mut dyn Any;
}

impl<T: Serialize + Clone + Send + Sync + 'static> Erased for T {
    fn clone_box(&self) -> Box<dyn Erased> {
        Box::new(self.clone())
    }
    fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }
    fn to_value(&self) -> serde_json::Result<Value> {
        serde_json::to_value(self)
    }
    fn any(&self) -> &dyn Any {
        self
    }
    fn any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

impl Memory {
    /// Takes a state in.
    pub fn new<S: Serialize + Clone + Send + Sync + 'static>(state: S) -> Self {
        Self(Box::new(state))
    }
    /// Reads a state of type `S`.
    ///
    /// # Errors
    /// The JSON is not of this type.
    pub fn decode<S>(json: &[u8]) -> serde_json::Result<Self>
    where
        S: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
    {
        serde_json::from_slice::<S>(json).map(Self::new)
    }
    /// The state as JSON.
    ///
    /// # Errors
    /// serde cannot write it.
    pub fn to_json(&self) -> serde_json::Result<Bytes> {
        self.0.as_ref().to_json().map(Bytes::from)
    }
    /// The state itself. None: it is of another type.
    pub fn get<S: 'static>(&self) -> Option<&S> {
        self.0.as_ref().any().downcast_ref()
    }
    pub(crate) fn of<S: 'static>(&self) -> &S {
        self.get()
            .expect("invariant: the builder ties a step's state type to its saga's")
    }
    pub(crate) fn of_mut<S: 'static>(&mut self) -> &mut S {
        let any = self.0.as_mut().any_mut();
        any.downcast_mut()
            .expect("invariant: the builder ties a step's state type to its saga's")
    }
    /// A 64-bit hash of the canonical JSON: keys in order; of an object's fields, what is null, false, zero or empty is
    /// left out, so that a field added later with `#[serde(default)]` changes no hash.
    ///
    /// # Errors
    /// serde cannot write it.
    pub fn hash(&self) -> serde_json::Result<u64> {
        let mut hash = Xxh3::new();
        feed(&mut hash, &self.0.as_ref().to_value()?);
        Ok(hash.digest())
    }
}

impl Clone for Memory {
    fn clone(&self) -> Self {
        Self(self.0.as_ref().clone_box())
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_json() {
            Ok(json) => f.write_str(&String::from_utf8_lossy(&json)),
            Err(error) => write!(f, "<{error}>"),
        }
    }
}

impl PartialEq for Memory {
    fn eq(&self, other: &Self) -> bool {
        match (self.hash(), other.hash()) {
            (Ok(one), Ok(two)) => one == two,
            _ => false,
        }
    }
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(bool) => !bool,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_default),
    }
}

// Each value starts with a tag and says its length, so that no two values feed the same bytes.
fn feed(hash: &mut Xxh3, value: &Value) {
    let mut text = |tag: u8, text: &str| {
        hash.update(&[tag]);
        hash.update(&(text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    };
    match value {
        Value::Null => hash.update(b"n"),
        Value::Bool(bool) => hash.update(if *bool { b"t" } else { b"f" }),
        Value::Number(number) => text(b'#', &number.to_string()),
        Value::String(string) => text(b'"', string),
        Value::Array(items) => {
            hash.update(b"[");
            hash.update(&(items.len() as u64).to_be_bytes());
            items.iter().for_each(|item| feed(hash, item));
        }
        Value::Object(fields) => {
            let mut kept: Vec<_> = fields.iter().filter(|(_, value)| !is_default(value)).collect();
            kept.sort_unstable_by_key(|(name, _)| *name);
            hash.update(b"{");
            hash.update(&(kept.len() as u64).to_be_bytes());
            for (name, value) in kept {
                hash.update(&(name.len() as u64).to_be_bytes());
                hash.update(name.as_bytes());
                feed(hash, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Memory;

    fn hash(value: serde_json::Value) -> u64 {
        Memory::new(value).hash().unwrap()
    }

    #[test]
    fn a_field_added_with_its_default_changes_no_hash() {
        let before = hash(json!({ "sku": "tea", "cents": 450 }));
        let after = json!({ "cents": 450, "gift": false, "note": "", "tags": [], "left": null, "sku": "tea", "n": 0,
                            "address": { "street": "" } });
        assert_eq!(before, hash(after));
    }

    #[test]
    fn any_other_difference_changes_the_hash() {
        let all = [
            json!({ "a": 1 }),
            json!({ "a": 2 }),
            json!({ "b": 1 }),
            json!({ "a": "1" }),
            json!({ "a": [1] }),
            json!({ "a": [0, 1] }),
            json!({ "a": [1, 0] }),
            json!({ "a": { "a": 1 } }),
            json!([[], [1]]),
            json!([[1], []]),
            json!({ "a": 1, "b": 1 }),
            json!("a"),
            json!(["a", "b"]),
            json!(["ab"]),
        ];
        for (i, one) in all.iter().enumerate() {
            for two in &all[i + 1..] {
                assert_ne!(hash(one.clone()), hash(two.clone()), "{one} and {two}");
            }
        }
    }
}
