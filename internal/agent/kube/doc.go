// Package kube knows what is in the cluster right now: which ServiceAccounts and Pods exist, on which node a Pod runs,
// and it tells a Pod's owner what went wrong by an Event.
//
// It must never decide who may have a certificate, and it trusts the API server that its client talks to. What it keeps
// of a Pod are the few fields below, because a large cluster has many Pods.
package kube
