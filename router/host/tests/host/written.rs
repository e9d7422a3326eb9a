//! Guests written by hand, in the text form: what no compiler would make.

/// A filter in parts; each is the text of the body of one function, or of items of the core module.
/// What is not given is well-behaved: it takes every batch of one message, and passes it.
pub struct Written<'a> {
    /// Gives the place of the host's arguments. Parameters: $old, $old_len, $align, $len.
    pub realloc: &'a str,
    /// Gives the place of the answer of `init`.
    pub init: &'a str,
    /// Gives the place of the answer of `filter`.
    pub filter: &'a str,
    /// Tables, globals, data, other functions, a start function.
    pub items: &'a str,
    /// Pages of 64 KiB that its memory has at the start.
    pub pages: u32,
}

impl Default for Written<'_> {
    fn default() -> Self {
        Written {
            realloc: "i32.const 4096",
            init: "i32.const 16",
            filter: "i32.const 256",
            // A list of one decision, which is the byte 0 at 1024.
            items: r#"(data (i32.const 260) "\00\04\00\00\01\00\00\00")"#,
            pages: 1,
        }
    }
}

impl Written<'_> {
    /// The component. Its core module may call `$now`, and `$log` with a level, a place and a
    /// length; its memory is imported, so that `$log` can read it.
    pub fn component(&self) -> Vec<u8> {
        let Written {
            realloc,
            init,
            filter,
            items,
            pages,
        } = self;
        let text = format!(
            r#"(component
          (import "waypost:plugin/clock@0.1.1" (instance $clock
            (export "now-ms" (func (result u64)))))
          (import "waypost:plugin/log@0.1.1" (instance $logs
            (type $level' (enum "trace" "debug" "info" "warn" "error"))
            (export "level" (type $level (eq $level')))
            (export "log" (func (param "level" $level) (param "message" string)))))
          (core module $mem (memory (export "memory") {pages}))
          (core instance $mem (instantiate $mem))
          (alias core export $mem "memory" (core memory $memory))
          (core func $now (canon lower (func $clock "now-ms")))
          (core func $log (canon lower (func $logs "log") (memory $memory)))
          (core module $m
            (import "env" "memory" (memory 1))
            (import "env" "now" (func $now (result i64)))
            (import "env" "log" (func $log (param i32 i32 i32)))
            (func $realloc (export "realloc")
              (param $old i32) (param $old_len i32) (param $align i32) (param $len i32)
              (result i32) {realloc})
            (func (export "init") (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) {init})
            (func (export "filter") (param i32 i32 i32 i32 i32 i32) (result i32) {filter})
            {items})
          (core instance $m (instantiate $m (with "env" (instance
            (export "memory" (memory $memory))
            (export "now" (func $now))
            (export "log" (func $log))))))
          {TYPES}
          (func $init (param "config" $config) (result (result $interest (error $init-error)))
            (canon lift (core func $m "init") (memory $memory) (realloc (core func $m "realloc"))))
          (func $filter (param "batch" $batch) (result (result $decisions (error $error)))
            (canon lift (core func $m "filter") (memory $memory) (realloc (core func $m "realloc"))))
          (instance $lifecycle (export "init" (func $init)))
          (export "waypost:plugin/lifecycle@0.1.1" (instance $lifecycle))
          (instance $filters (export "filter" (func $filter)))
          (export "waypost:plugin/filter@0.1.1" (instance $filters)))"#
        );
        wat::parse_str(text).expect("a component in text form")
    }
}

/// The contract's types, as far as a filter needs them.
const TYPES: &str = r#"
  (type $config' (record (field "plugin" string) (field "role" string)
    (field "instance" u32) (field "settings" (list (tuple string string)))
    (field "destinations" (list string))))
  (export $config "config" (type $config'))
  (type $headers' (variant (case "nothing") (case "only" (list string)) (case "everything")))
  (export $headers "header-interest" (type $headers'))
  (type $payload' (variant (case "nothing") (case "prefix" u32) (case "everything")))
  (export $payload "payload-interest" (type $payload'))
  (type $interest' (record (field "headers" $headers) (field "payload" $payload)
    (field "fields" (list string)) (field "max-batch" u32)))
  (export $interest "interest" (type $interest'))
  (type $init-error' (record (field "setting" (option string)) (field "message" string)))
  (export $init-error "init-error" (type $init-error'))
  (type $batch' (record (field "count" u32) (field "stride" u32)
    (field "index" (list u32)) (field "arena" (list u8))))
  (export $batch "batch" (type $batch'))
  (type $error' (variant (case "invalid" string) (case "unavailable" string)
    (case "internal" string)))
  (export $error "error" (type $error'))
  (type $decision' (enum "pass" "drop" "reject" "retry" "dead-letter"))
  (export $decision "decision" (type $decision'))
  (type $decisions' (record (field "each" (list $decision))
    (field "reasons" (list (tuple u32 string)))))
  (export $decisions "decisions" (type $decisions'))
"#;
