// Package connector makes what another system needs to get its certificates here: for Istio, the Kubernetes objects, the
// Helm values, and the steps in their order, each with a check.
//
// It is pure: it reads no clock, no storage and no network, and the same settings always make the same files. It must
// never make a package whose parts do not fit one another, or that the profile would refuse: Check says so beforehand. It
// trusts that the profile and the credential passed the catalog, and nothing of the settings.
package connector
