//! Turns what the compiler made into the module that Envoy loads.
//!
//! The SDK exports all its callbacks and its allocator by force, and Envoy enters the VM for
//! every callback that is exported (0.3 to 0.4 µs each). The filter's own entry points are
//! exported as `keygate_*`; here the SDK's go, ours take their names, and what nothing reaches
//! any more is dropped.

use std::collections::HashSet;

use anyhow::{Context, Result, bail};
use walrus::{ElementItems, FunctionBuilder, Module, ModuleConfig};

use super::names;

/// Exports of the compiler's and the SDK's that stay.
const KEPT: [&str; 2] = ["memory", "proxy_abi_version_0_2_1"];

/// Exports without which the filter would not do its work in Envoy.
const WANTED: [&str; 9] = [
    "memory",
    "proxy_abi_version_0_2_1",
    "malloc",
    "proxy_on_configure",
    "proxy_on_tick",
    "proxy_on_context_create",
    "proxy_on_request_headers",
    "proxy_on_response_headers",
    "proxy_on_http_call_response",
];

/// The one function of WASI that may be used: seeds for hash tables.
const WASI: (&str, &[&str]) = ("wasi_snapshot_preview1", &["random_get"]);

/// The finished module.
///
/// # Errors
/// When the module cannot be read, lacks an entry point, or imports something that Envoy does not
/// give; the message names it.
pub fn finish(compiled: &[u8]) -> Result<Vec<u8>> {
    let mut module = ModuleConfig::new()
        .generate_name_section(true)
        .generate_producers_section(false)
        .parse(compiled)
        .context("the compiler's output is no WebAssembly module")?;
    rename_exports(&mut module);
    forget_contexts(&mut module);
    walrus::passes::gc::run(&mut module);
    check_exports(&module)?;
    check_imports(&module)?;
    names::shorten(&mut module);
    Ok(module.emit_wasm())
}

fn rename_exports(module: &mut Module) {
    let all: Vec<_> =
        module.exports.iter().map(|export| (export.id(), export.name.clone())).collect();
    for (id, name) in all {
        if let Some(final_name) = final_name(&name) {
            module.exports.get_mut(id).name = final_name;
        } else {
            module.exports.delete(id);
        }
    }
}

/// The name under which an export of the compiled module stays, if it does.
fn final_name(name: &str) -> Option<String> {
    if KEPT.contains(&name) {
        return Some(name.to_owned());
    }
    match name.strip_prefix("keygate_")? {
        "malloc" => Some("malloc".to_owned()),
        callback => callback.starts_with("on_").then(|| format!("proxy_{callback}")),
    }
}

/// The SDK's dispatcher has a context that does nothing, and the unfinished module one that refuses.
/// Their methods stand in the table of functions, so they would count as reached, with all that they
/// call; but whoever could call them went with the SDK's exports. A trap takes their places.
fn forget_contexts(module: &mut Module) {
    let of_contexts: HashSet<_> = module
        .funcs
        .iter()
        .filter(|function| function.name.as_deref().is_some_and(names::is_of_a_context))
        .map(walrus::Function::id)
        .collect();
    let mut trap = FunctionBuilder::new(&mut module.types, &[], &[]);
    trap.name("keygate_no_context".to_owned()).func_body().unreachable();
    let trap = trap.finish(Vec::new(), &mut module.funcs);
    for element in module.elements.iter_mut() {
        if let ElementItems::Functions(functions) = &mut element.items {
            for function in functions.iter_mut().filter(|function| of_contexts.contains(function)) {
                *function = trap;
            }
        }
    }
}

fn check_exports(module: &Module) -> Result<()> {
    for wanted in WANTED {
        if !module.exports.iter().any(|export| export.name == wanted) {
            let from = wanted.strip_prefix("proxy_").unwrap_or(wanted);
            bail!("the filter does not export {wanted} (as keygate_{from} in its source)");
        }
    }
    Ok(())
}

fn check_imports(module: &Module) -> Result<()> {
    for import in module.imports.iter() {
        let known = match import.module.as_str() {
            "env" => import.name.starts_with("proxy_"),
            wasi if wasi == WASI.0 => WASI.1.contains(&import.name.as_str()),
            _ => false,
        };
        if !known {
            bail!(
                "the filter imports {}.{}, which it may not: only env.proxy_* and {}.{} are given",
                import.module,
                import.name,
                WASI.0,
                WASI.1.join(", ")
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::finish;
    use walrus::Module;

    /// As the compiler leaves it: the SDK's exports, and ours.
    fn compiled(imports: &str, ours: &str) -> Vec<u8> {
        wat::parse_str(format!(
            r#"(module
                (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
                (import "env" "proxy_get_header_map_value" (func $sdk_only (param i32 i32 i32 i32 i32) (result i32)))
                {imports}
                (memory (export "memory") 1)
                (func (export "proxy_abi_version_0_2_1"))
                (func $allocate (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 0)
                (func (export "malloc") (param i32) (result i32) i32.const 0)
                (table 2 funcref)
                (elem (i32.const 0) func $_ZN10proxy_wasm6traits7Context7on_done17h0123456789abcdefE $tick)
                (func $_ZN10proxy_wasm6traits7Context7on_done17h0123456789abcdefE
                    (drop (call $sdk_only (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))))
                (func (export "_initialize"))
                (func (export "proxy_on_log") (param i32)
                    (drop (call $sdk_only (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))))
                (func $tick (drop (call $log (i32.const 0) (i32.const 0) (i32.const 0))))
                (export "keygate_on_tick" (func $tick))
                (export "keygate_malloc" (func $allocate))
                (export "keygate_on_configure" (func $tick))
                (export "keygate_on_context_create" (func $tick))
                (export "keygate_on_response_headers" (func $tick))
                (export "keygate_on_http_call_response" (func $tick))
                {ours}
            )"#
        ))
        .unwrap()
    }

    const REQUEST: &str = r#"(export "keygate_on_request_headers" (func $tick))"#;

    #[test]
    fn only_our_entry_points_are_left() {
        let finished = finish(&compiled("", REQUEST)).unwrap();
        let module = Module::from_buffer(&finished).unwrap();
        let mut names: Vec<_> = module.exports.iter().map(|export| export.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "malloc",
                "memory",
                "proxy_abi_version_0_2_1",
                "proxy_on_configure",
                "proxy_on_context_create",
                "proxy_on_http_call_response",
                "proxy_on_request_headers",
                "proxy_on_response_headers",
                "proxy_on_tick",
            ]
        );
    }

    #[test]
    fn what_only_the_sdk_needed_is_gone() {
        let finished = finish(&compiled("", REQUEST)).unwrap();
        let module = Module::from_buffer(&finished).unwrap();
        let imports: Vec<_> = module.imports.iter().map(|import| import.name.as_str()).collect();
        assert_eq!(imports, ["proxy_log"]);
    }

    #[test]
    fn function_names_stay_for_backtraces() {
        let finished = finish(&compiled("", REQUEST)).unwrap();
        let module = Module::from_buffer(&finished).unwrap();
        assert!(module.funcs.iter().any(|function| function.name.as_deref() == Some("tick")));
    }

    #[test]
    fn a_missing_entry_point_is_named() {
        let error = finish(&compiled("", "")).unwrap_err().to_string();
        assert!(error.contains("proxy_on_request_headers"), "{error}");
    }

    #[test]
    fn an_import_that_envoy_does_not_give_is_named() {
        let import = r#"(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32)))
            (func $uses (call $write (i32.const 0)))"#;
        let ours = r#"(export "keygate_on_request_headers" (func $uses))"#;
        let error = finish(&compiled(import, ours)).unwrap_err().to_string();
        assert!(error.contains("wasi_snapshot_preview1.fd_write"), "{error}");
    }

    #[test]
    fn random_numbers_may_be_imported() {
        let import = r#"(import "wasi_snapshot_preview1" "random_get" (func $random (param i32)))
            (func $uses (call $random (i32.const 0)))"#;
        let ours = r#"(export "keygate_on_request_headers" (func $uses))"#;
        assert!(finish(&compiled(import, ours)).is_ok());
    }
}
