// Package agentapi owns the wire types of the protocol between certloom-agent and the Certloom server (agent.proto),
// its client, and the bytes that both sides must compute alike. It has no behaviour.
//
// It must never import anything that can use a CA key: the agent links it. It trusts nothing: what a message means is
// checked where it is received.
package agentapi

//go:generate ../../scripts/protogen.sh agent.proto
