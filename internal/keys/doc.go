// Package keys owns private keys at rest and in use: it opens the vault with the secret that the operator keeps in
// a file, makes and opens the keys of CAs, and seals small secrets of other packages (HMAC keys of credentials, keys
// of the token ring).
//
// It is the only package that sees private keys of CAs. What it hands out signs and can do nothing else; a private key
// never leaves in the clear, and no error or log line tells anything of a secret but the name of its file. It trusts
// the secret's file, which nobody but the server's user may be able to read, and nothing of the database: what was
// sealed there is authenticated together with its purpose and name, so that it cannot be moved.
package keys
