//! JSON Schema (2020-12), as much of it as the document uses, for the tests that hold document and code together. A keyword it
//! does not know ends the test, so nothing is passed over. What it says is not the last word: another validator reads the
//! checked-in copy in the integration tests.

use serde_json::Value;

/// Why `value` is not what `schema` describes; `None` when it is. References are looked up in `document`.
pub(super) fn wrong(document: &Value, schema: &Value, value: &Value) -> Option<String> {
    let Some(keywords) = schema.as_object() else { panic!("{schema} is no schema") };
    let valid = |schema: &Value, value: &Value| wrong(document, schema, value).is_none();
    let each = |items: &Value| items.as_array().cloned().unwrap_or_else(|| panic!("{items} is no list"));
    keywords.iter().find_map(|(keyword, said)| {
        let holds = match keyword.as_str() {
            "$ref" => {
                let target = said.as_str().and_then(|said| document.pointer(said.strip_prefix('#')?));
                return wrong(document, target.unwrap_or_else(|| panic!("{said} leads nowhere")), value);
            }
            "description" | "then" | "else" => true,
            "type" => {
                let kinds = if said.is_array() { each(said) } else { vec![said.clone()] };
                kinds.iter().any(|kind| match kind.as_str().expect("a name") {
                    "null" => value.is_null(),
                    "boolean" => value.is_boolean(),
                    "number" => value.is_number(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "string" => value.is_string(),
                    "array" => value.is_array(),
                    "object" => value.is_object(),
                    kind => panic!("{kind} is no type"),
                })
            }
            "const" => said == value,
            "enum" => each(said).contains(value),
            "anyOf" => each(said).iter().any(|one| valid(one, value)),
            "if" => {
                let branch = if valid(said, value) { keywords.get("then") } else { keywords.get("else") };
                return branch.and_then(|branch| wrong(document, branch, value));
            }
            "minimum" | "maximum" => compare(value, said)
                .is_none_or(|order| if keyword == "minimum" { order.is_ge() } else { order.is_le() }),
            "minLength" | "maxLength" => value.as_str().is_none_or(|text| {
                let (len, bound) = (text.chars().count() as u64, said.as_u64().expect("a number"));
                if keyword == "minLength" { len >= bound } else { len <= bound }
            }),
            "minItems" | "maxItems" => value.as_array().is_none_or(|items| {
                let (len, bound) = (items.len() as u64, said.as_u64().expect("a number"));
                if keyword == "minItems" { len >= bound } else { len <= bound }
            }),
            "items" => match value
                .as_array()
                .and_then(|items| items.iter().find_map(|item| wrong(document, said, item)))
            {
                Some(why) => return Some(why),
                None => true,
            },
            "pattern" => value.as_str().is_none_or(|text| matches(said.as_str().expect("a pattern"), text)),
            "format" => value.as_str().is_none_or(|text| {
                assert_eq!(said, "date-time", "an unknown format");
                time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).is_ok()
            }),
            "required" => value.as_object().is_none_or(|fields| {
                each(said).iter().all(|name| fields.contains_key(name.as_str().expect("a name")))
            }),
            "properties" => {
                let fields = value.as_object().into_iter().flatten();
                let known = fields.filter_map(|(name, value)| Some((name, said.get(name)?, value)));
                match known.into_iter().find_map(|(name, schema, value)| {
                    Some(format!("{name}: {}", wrong(document, schema, value)?))
                }) {
                    Some(why) => return Some(why),
                    None => true,
                }
            }
            "additionalProperties" => {
                assert_eq!(said, false, "only closed objects are known");
                let known = keywords.get("properties").and_then(Value::as_object).expect("what is known");
                value.as_object().is_none_or(|fields| fields.keys().all(|name| known.contains_key(name)))
            }
            keyword => panic!("{keyword} is not known to this validator"),
        };
        (!holds).then(|| format!("{value} breaks {keyword} {said}"))
    })
}

/// How two numbers compare; none when the first is not one.
fn compare(value: &Value, bound: &Value) -> Option<std::cmp::Ordering> {
    if let (Some(value), Some(bound)) = (value.as_u64(), bound.as_u64()) {
        return Some(value.cmp(&bound));
    }
    value.as_f64()?.partial_cmp(&bound.as_f64()?)
}

/// The four kinds of pattern the document has.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern {
        r"^(room|call)\." => text.starts_with("room.") || text.starts_with("call."),
        "^(room|call)" => text.starts_with("room") || text.starts_with("call"),
        _ => {
            if let Some(len_max) = pattern.strip_prefix("^[!-~]{1,").and_then(|rest| rest.strip_suffix("}$"))
            {
                let len_max: usize = len_max.parse().expect("a number");
                return (1..=len_max).contains(&text.len())
                    && text.bytes().all(|byte| byte.is_ascii_graphic());
            }
            let id =
                pattern.strip_prefix('^').and_then(|rest| rest.strip_suffix("[0-7][0-9a-hjkmnp-tv-z]{25}$"));
            let prefix = id.unwrap_or_else(|| panic!("{pattern} is not known to this validator"));
            text.strip_prefix(prefix).is_some_and(|id| {
                let alphabet = |byte| b"0123456789abcdefghjkmnpqrstvwxyz".contains(&byte);
                id.len() == 26 && id.bytes().all(alphabet) && id.as_bytes()[0] <= b'7'
            })
        }
    }
}
