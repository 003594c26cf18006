//! The generated implementations.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::LitStr;
use syn::spanned::Spanned;

use crate::model::{Message, MessageField, MessageVariant, Role, Shape};
use crate::{heard, hidden, other};

/// Returns the whole expansion of the derive for an enum.
pub(crate) fn message(message: &Message) -> TokenStream {
    let Message { ident, root, variants, .. } = message;
    let kinds = variants.iter().map(|variant| kind(root, variant, variant.written_version()));
    let structs = hidden::structs(message);
    let kind = kind_of(message);
    let encode = encode(message);
    let decode = decode(message);
    let trace = trace(message);
    let receives = variants.iter().filter_map(|variant| {
        receives(message, variant).or_else(|| heard::hears(message, variant))
    });
    let receive_raw = receive_raw(message);
    let display = display(message);
    let has_other = other::has_other(message);
    quote! {
        const _: () = {
            #structs

            #[automatically_derived]
            impl #root::Message for #ident {
                const KINDS: &'static [#root::__private::MessageKind] = &[#(#kinds),*];
                #has_other
                #kind
                #encode
                #decode
                #trace
                #display
                #receive_raw
            }

            #(#receives)*
        };
    }
}

fn kind(root: &TokenStream, variant: &MessageVariant, version: u16) -> TokenStream {
    let MessageVariant { name, internal, summary, .. } = variant;
    let some = |status| quote!(::core::option::Option::Some(#status));
    let status = variant.status.map_or_else(|| quote!(::core::option::Option::None), some);
    quote! {
        #root::__private::MessageKind {
            name: #name,
            version: #version,
            internal: #internal,
            status: #status,
            summary: #summary,
        }
    }
}

fn kind_of(message: &Message) -> TokenStream {
    let Message { root, variants, .. } = message;
    let arms = variants.iter().enumerate().map(|(i, variant)| {
        let ident = &variant.ident;
        quote!(Self::#ident { .. } => &<Self as #root::Message>::KINDS[#i])
    });
    let body =
        match_self(message, arms.chain(other::arm(message, &quote!(&#root::__private::OTHER))));
    quote! {
        #[inline]
        fn kind(&self) -> &'static #root::__private::MessageKind {
            #body
        }
    }
}

fn display(message: &Message) -> TokenStream {
    let root = &message.root;
    quote! {
        fn display(&self) -> ::core::option::Option<::std::string::String> {
            #[allow(unused_imports, reason = "one of the two is used")]
            use #root::__private::{WithDisplay as _, WithoutDisplay as _};
            (&#root::__private::Displayed(self)).text()
        }
    }
}

fn encode(message: &Message) -> TokenStream {
    let Message { root, variants, .. } = message;
    let (kind, value) = (local("kind"), local("format"));
    let arms = variants.iter().map(|variant| encode_variant(root, variant));
    let refused = quote!(::core::result::Result::Err(#root::__private::EncodeError::other()));
    let body = match_self(message, arms.chain(other::arm(message, &refused)));
    let body = if variants.is_empty() {
        quote!(let _ = #value; #body)
    } else {
        quote!(let #kind = <Self as #root::Message>::kind(self); #body)
    };
    quote! {
        fn encode(
            &self,
            #value: #root::__private::Format,
        ) -> ::core::result::Result<::std::vec::Vec<u8>, #root::__private::EncodeError> {
            #body
        }
    }
}

fn encode_variant(root: &TokenStream, variant: &MessageVariant) -> TokenStream {
    let (format, kind, ident) = (local("format"), local("kind"), &variant.ident);
    if let Some(shape) = variant.written_shape() {
        let of_enum = quote_spanned!(shape.span()=> Self);
        return quote! {
            Self::#ident { .. } => #root::__private::encode_content(
                #kind,
                #format,
                &<#shape as ::core::convert::From<&#of_enum>>::from(self),
            )
        };
    }
    // `check_write` has reported a version that is not there.
    let Some(content) = variant.written_content() else { return TokenStream::new() };
    let written: Vec<_> = hidden::written(content).collect();
    let kept: Vec<_> = written.iter().filter(|field| field.index.is_some()).collect();
    let members = kept.iter().map(|field| field.member());
    let bound = kept.iter().map(|field| field.local());
    let removed = written.iter().filter(|field| field.index.is_none()).map(|field| {
        let (local, ty, value) = (field.local(), &field.ty, field.missing(root));
        quote!(let #local: &#ty = &#value;)
    });
    let locals: Vec<_> = written.iter().map(|field| field.local()).collect();
    let names: Vec<_> = written.iter().map(|field| field.hidden()).collect();
    let encode =
        |content: TokenStream| quote!(#root::__private::encode_content(#kind, #format, #content));
    let part = |part: &str| {
        let name = content.hidden(variant, part);
        if content.shape == Shape::Transparent {
            encode(quote!(&#name(#(#locals),*)))
        } else {
            encode(quote!(&#name { #(#names: #locals),* }))
        }
    };
    let body = if written.is_empty() {
        encode(quote!(&__Empty {}))
    } else if content.is_bare() {
        encode(quote!(#(#locals)*))
    } else if hidden::packs(content) {
        let (json, binary) = (part("Write"), part("Pack"));
        quote!(match #format { #root::__private::Format::Binary => #binary, #root::__private::Format::Json => #json })
    } else {
        part("Write")
    };
    quote!(Self::#ident { #(#members: #bound,)* .. } => { #(#removed)* #body })
}

fn decode(message: &Message) -> TokenStream {
    let Message { root, variants, .. } = message;
    let (name, version) = (local("name"), local("version"));
    let mut names = Vec::<&str>::new();
    for variant in variants {
        if !names.contains(&variant.name.as_str()) {
            names.push(&variant.name);
        }
    }
    let arms = names.iter().map(|stored| {
        let of_name = variants.iter().filter(|variant| variant.name == *stored);
        let known = of_name.clone().map(|variant| variant.version).max();
        let versions = of_name.flat_map(|variant| decode_versions(message, variant));
        quote! {
            #stored => match #version {
                #(#versions,)*
                _ => ::core::result::Result::Err(#root::__private::DecodeError::UnknownVersion {
                    name: ::std::string::String::from(#name),
                    version: #version,
                    known: #known,
                }),
            }
        }
    });
    let unknown = other::decoded(message, &name);
    // An enum without variants uses only the name.
    let (format, bytes) = (local("format"), local("bytes"));
    let unused = variants.is_empty().then(|| quote!(let _ = (#version, #format, #bytes);));
    quote! {
        fn decode(
            #name: &str,
            #version: u16,
            #format: #root::__private::Format,
            #bytes: &[u8],
        ) -> ::core::result::Result<Self, #root::__private::DecodeError> {
            #unused
            match #name {
                #(#arms,)*
                _ => #unknown,
            }
        }
    }
}

/// Returns a match arm for each version of a variant.
fn decode_versions(message: &Message, variant: &MessageVariant) -> Vec<TokenStream> {
    let root = &message.root;
    let (name, version) = (local("name"), local("version"));
    let (format, bytes, old) = (local("format"), local("bytes"), local("old"));
    let read = |shape: TokenStream| {
        quote! {
            #root::__private::decode_content::<#shape>(#name, #version, #format, #bytes)
        }
    };
    let mut arms = Vec::new();
    for (i, upcaster) in variant.upcasters.iter().enumerate() {
        let (number, shape) = (upcaster.version, &upcaster.shape);
        let newer = variant.upcasters[i..].windows(2).map(|pair| {
            let (older, newer) = (&pair[0].shape, &pair[1].shape);
            quote!(let #old = <#newer as ::core::convert::From<#older>>::from(#old);)
        });
        let last = variant.upcasters.last().map(|last| &last.shape);
        let of_enum = quote_spanned!(last.span()=> Self);
        let message = quote!(<#of_enum as ::core::convert::From<#last>>::from(#old));
        let read = read(quote!(#shape));
        arms.push(quote!(#number => #read.map(|#old| { #(#newer)* #message })));
    }
    for content in variant.contents() {
        let number = content.version.unwrap_or(variant.version);
        let hidden::Decoded { ty, pattern, build } = hidden::decoded(message, variant, content);
        let read = match heard::target(variant) {
            Some(target) => {
                quote!(#root::__private::decode_heard::<#target>(#name, #version, #format, #bytes))
            }
            None => read(ty),
        };
        arms.push(quote!(#number => #read.map(|#pattern| #build)));
    }
    arms
}

fn trace(message: &Message) -> TokenStream {
    let Message { root, variants, .. } = message;
    let tracer = local(if variants.is_empty() { "_tracer" } else { "tracer" });
    let contents = variants.iter().map(|variant| {
        let old = variant.upcasters.iter().map(|upcaster| {
            let (kind, shape) = (kind(root, variant, upcaster.version), &upcaster.shape);
            quote!(#tracer.content::<#shape>(&#kind);)
        });
        let own = variant.contents().map(|content| {
            let kind = kind(root, variant, content.version.unwrap_or(variant.version));
            let (shape, reads_fields) = match heard::target(variant) {
                Some(_) => (quote!(#root::__private::HeardContent), TokenStream::new()),
                None => hidden::traced(message, variant, content),
            };
            quote! {
                #reads_fields
                #tracer.content::<#shape>(&#kind);
            }
        });
        quote!(#(#old)* #(#own)*)
    });
    quote! {
        fn trace(#tracer: &mut #root::schema::SchemaTracer) {
            #(#contents)*
        }
    }
}

/// Returns the implementation of `Receives` or `ReceivesOutcome` for a variant that takes replies
/// or outcomes.
fn receives(message: &Message, variant: &MessageVariant) -> Option<TokenStream> {
    let Message { ident, root, .. } = message;
    let (last, before) = variant.fields.split_last()?;
    let (taken, receiver, method) = match variant.role {
        Role::Plain | Role::Heard => return None,
        Role::Reply => ("Reply", "Receives", "receive"),
        Role::CallOutcome => ("CallOutcome", "ReceivesOutcome", "receive_outcome"),
    };
    let [taken, receiver, method] = [taken, receiver, method].map(|name| format_ident!("{name}"));
    let target = source(message, variant)?;
    let types: Vec<_> = before.iter().map(|field| &field.ty).collect();
    let locals: Vec<_> = before.iter().map(MessageField::local).collect();
    let (tag, pattern) = match (types.as_slice(), locals.as_slice()) {
        ([ty], [local]) => (quote!(#ty), quote!(#local)),
        ([], _) => (quote!(()), quote!(())),
        _ => (quote!((#(#types),*)), quote!((#(#locals),*))),
    };
    let members = before.iter().map(MessageField::member);
    let (name, member, reply) = (&variant.ident, last.member(), last.local());
    let index = message.variants.iter().position(|other| other.ident == variant.ident)?;
    let fields = u16::try_from(before.len()).ok()?;
    Some(quote! {
        #[automatically_derived]
        impl #root::__private::#receiver<#target> for #ident {
            type Tag = #tag;
            const KIND: &'static #root::__private::MessageKind = &<Self as #root::Message>::KINDS[#index];
            const FIELDS: u16 = #fields;

            fn #method(#pattern: Self::Tag, #reply: #root::#taken<#target>) -> Self {
                Self::#name { #(#members: #locals,)* #member: #reply }
            }
        }
    })
}

/// Returns `receive_raw`, which finds the variant of a reply by the name of its source; `None` for
/// a message that takes no replies.
fn receive_raw(message: &Message) -> Option<TokenStream> {
    let root = &message.root;
    let raw = local("reply");
    let (mut sources, mut arms) = (Vec::new(), Vec::new());
    for variant in &message.variants {
        let Some(source) = source(message, variant) else { continue };
        let (name, is_gateway, build) = match variant.role {
            Role::Plain | Role::Heard => continue,
            Role::Reply => (quote!(<#source as #root::Target>::NAME), false, quote!(reply)),
            Role::CallOutcome => {
                (quote!(<#source as #root::Gateway>::NAME), true, quote!(call_outcome))
            }
        };
        let of = if is_gateway { quote!(Gateway) } else { quote!(Target) };
        sources.push(quote!(#root::__private::ReplySource::#of(#name)));
        arms.push(quote! {
            if #raw.to.outcome.is_gateways() == #is_gateway && #raw.to.from == #name {
                return #raw.#build::<Self, #source>();
            }
        });
    }
    (!arms.is_empty()).then(|| {
        quote! {
            const REPLIES: &'static [#root::__private::ReplySource] = &[#(#sources),*];

            fn receive_raw(
                #raw: &#root::__private::RawReply<'_>,
            ) -> ::core::result::Result<Self, #root::__private::DecodeError> {
                #(#arms)*
                #raw.unknown()
            }
        }
    })
}

/// Returns the target or gateway whose replies or outcomes a variant takes.
fn source(message: &Message, variant: &MessageVariant) -> Option<TokenStream> {
    let Message { ident, root, .. } = message;
    let ty = &variant.fields.last()?.ty;
    let (marker, of) = match variant.role {
        Role::Plain | Role::Heard => return None,
        Role::Reply => ("IsReply", "Target"),
        Role::CallOutcome => ("IsCallOutcome", "Gateway"),
    };
    let (marker, of) = (format_ident!("{marker}"), format_ident!("{of}"));
    Some(variant.target.clone().unwrap_or_else(
        || quote_spanned!(ty.span()=> <#ty as #root::__private::#marker<#ident>>::#of),
    ))
}

/// Returns a `match self`, also for an enum without variants.
fn match_self(message: &Message, arms: impl Iterator<Item = TokenStream>) -> TokenStream {
    if message.variants.is_empty() && message.other.is_none() {
        quote!(match *self {})
    } else {
        quote!(match self { #(#arms,)* })
    }
}

/// Returns the name of a local variable that cannot clash with the user's names.
fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

/// Returns a string literal, for attributes that take paths as strings.
pub(crate) fn text(ident: &Ident) -> LitStr {
    LitStr::new(&ident.to_string(), Span::call_site())
}
