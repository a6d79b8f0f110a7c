// Package acme is the ACME server: RFC 8555 with external account binding, ARI (RFC 9773) and ACME profiles
// (draft-ietf-acme-profiles). It owns what a request means: which account sent it, what state an order is in, which
// answer says so.
//
// It must never decide which names are allowed (that is policy, asked at the order and again by issue), sign (issue,
// revoke) or keep state of its own that another replica would miss: what it remembers are copies, for seconds. It
// trusts the catalog and the store; everything of a request is hostile until its signature, its nonce and its account
// have been checked, in this order, so that nobody can burn a nonce that he has only seen (RFC 8555 section 6.5).
//
// # Orders without a row
//
// Nothing is remembered of an order when it is made: its URL is the order, sealed (see sealed.go), and its
// authorizations and challenges are made up from it. Where names are pre-authorized, the certificate's row, with the
// order's identifier in it, is the one durable write of the whole issuance, and what makes finalize idempotent. Where
// they are proved by challenge, the outcome of each validation is a row too, as is an authorization that a client
// deactivates. The few orders that are too large for a URL have a row from the beginning.
//
// # Where we differ from RFC 8555, on purpose
//
//   - A finalize that is repeated with the same CSR gets the order and its certificate, not orderNotReady (section
//     7.4): clients that lost the answer depend on it. Options.StrictFinalize restores the letter.
//   - An order without identifiers is possible where the profile issues SPIFFE IDs: mesh clients have no name to put
//     there (section 7.4 wants at least one).
//   - The orders list (section 7.1.2.1) has no order before it is finalized, but for large ones: nothing is stored
//     of it.
package acme
