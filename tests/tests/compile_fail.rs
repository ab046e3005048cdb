//! What the compiler says to mistakes. `TRYBUILD=overwrite cargo test -p sagamill-tests --test compile_fail` records it
//! anew.

#[test]
fn mistakes_are_named() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
