//! Who may read what somebody posts, as the database, the API and events name it.

use crate::events::schema;

/// Who may read a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = PostVisibility)]
pub enum Visibility {
    /// Everybody who is logged in.
    Public,
    /// Its author's followers.
    Followers,
    /// Its author alone.
    Private,
}

impl Visibility {
    /// As the database and the API name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Visibility::Public => "public",
            Visibility::Followers => "followers",
            Visibility::Private => "private",
        }
    }

    /// As events name it.
    pub(super) fn told(self) -> i32 {
        let told = match self {
            Visibility::Public => schema::Visibility::Public,
            Visibility::Followers => schema::Visibility::Followers,
            Visibility::Private => schema::Visibility::Private,
        };
        told.into()
    }

    /// As the database names it.
    pub(super) fn read(text: &str) -> Visibility {
        match text {
            "public" => Visibility::Public,
            "followers" => Visibility::Followers,
            // The table knows no other; one that did would be shown to nobody else.
            _ => Visibility::Private,
        }
    }
}
