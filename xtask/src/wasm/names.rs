//! Names of functions, short enough to be carried along: they are what an address in a backtrace
//! is told by.

use walrus::Module;

/// The longest name that is kept whole.
const MAX_CHARACTERS: usize = 72;

/// Gives every function the short form of its name.
pub(super) fn shorten(module: &mut Module) {
    for function in module.funcs.iter_mut() {
        if let Some(name) = &mut function.name {
            *name = short(name);
        }
    }
}

/// Whether a symbol is a method of the SDK's contexts.
pub(super) fn is_of_a_context(symbol: &str) -> bool {
    rustc_demangle::demangle(symbol).to_string().contains("proxy_wasm::traits::")
}

/// A symbol as its source has it, without its hash; of types and traits in angle brackets only the
/// last part of the path is left, as in `gate::engine::lookup::<impl Gate>::learn`.
fn short(symbol: &str) -> String {
    let whole = format!("{:#}", rustc_demangle::demangle(symbol));
    let mut name = String::new();
    let mut rest = whole.as_str();
    let mut depth = 0_u32;
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let (part, after) = rest.split_at(word.max(first.len_utf8()));
        rest = after;
        match first {
            '<' => depth += 1,
            '>' if !name.ends_with('-') => depth = depth.saturating_sub(1),
            _ => {}
        }
        match rest.strip_prefix("::") {
            Some(inner) if depth > 0 && word > 0 => rest = inner,
            _ => name.push_str(part),
        }
    }
    name.char_indices().nth(MAX_CHARACTERS).map(|(end, _)| end).inspect(|&end| name.truncate(end));
    name
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn a_name_is_told_without_its_hash() {
        for (symbol, name) in [
            ("_ZN4gate6engine4Gate9on_answer17h0123456789abcdefE", "gate::engine::Gate::on_answer"),
            ("_RNvMs_NtCs1234_4core3fmtNtB4_9Formatter3pad", "<Formatter>::pad"),
            ("keygate_on_tick", "keygate_on_tick"),
            ("", ""),
        ] {
            assert_eq!(short(symbol), name);
        }
    }

    #[test]
    fn of_paths_in_brackets_the_last_part_is_left() {
        for (symbol, name) in [
            (
                "_ZN4core3ptr47drop_in_place$LT$keygate_filter..root..Root$GT$17h0123456789abcdefE",
                "core::ptr::drop_in_place<Root>",
            ),
            (
                "_ZN4gate6engine6lookup36_$LT$impl$u20$gate..engine..Gate$GT$5learn17h0123456789abcdefE",
                "gate::engine::lookup::<impl Gate>::learn",
            ),
            (
                "_ZN57_$LT$a..b..C$u20$as$u20$core..ops..Fn$LT$$LP$$RP$$GT$$GT$4call28_$u7b$$u7b$closure$u7d$$u7d$17h0123456789abcdefE",
                "<C as Fn<()>>::call::{{closure}}",
            ),
        ] {
            assert_eq!(short(symbol), name);
        }
    }

    #[test]
    fn no_name_is_longer_than_is_good() {
        assert_eq!(short(&"ä".repeat(500)).chars().count(), super::MAX_CHARACTERS);
    }
}
