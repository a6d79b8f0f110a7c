// Package cluster knows the Kubernetes clusters whose workloads call: the one that the agent runs in, and remote ones,
// each of which is a kubeconfig in a Secret. For each it answers who holds a token and which Pods there are.
//
// It must never let one cluster speak for another: a token counts only under the keys of the cluster that it is sent for,
// and a name belongs to one cluster. It trusts the API servers that it is given, and whoever may write these Secrets as far
// as naming such API servers goes: a kubeconfig that would make the agent run a program or read a file is refused.
package cluster
