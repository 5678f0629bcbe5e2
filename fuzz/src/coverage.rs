//! libFuzzer as the engine. The target is named by `KEYGATE_FUZZ_TARGET`.
#![no_main]

use std::sync::OnceLock;

use fuzz::Target;

static TARGET: OnceLock<&Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let target = TARGET.get_or_init(|| {
        let name =
            std::env::var("KEYGATE_FUZZ_TARGET").expect("KEYGATE_FUZZ_TARGET names a target");
        Target::named(&name).expect("there is such a target")
    });
    (target.run)(input);
});
