// Package storetest is the conformance suite that the store must pass on both databases, and opens stores for the tests
// of other packages. It is for tests only.
package storetest
