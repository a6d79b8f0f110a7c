package testbed

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
)

// Ports returns the first of n neighbouring TCP ports of 127.0.0.1 that nobody listens on.
//
// They lie below the range from which the kernel takes the ports of outgoing connections. A port that the kernel
// picks for a listener comes from that range, and so may become the source of a client's connection between the
// moment that a server is killed and the moment that it starts again.
func Ports(t T, n int) int {
	t.Helper()
	port, err := freePorts(n)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func freePorts(n int) (int, error) {
	const lowest, tries = 10000, 200
	highest := lowestEphemeral() - n
	if highest <= lowest {
		return 0, fmt.Errorf("outgoing connections use the ports from %d on, which leaves none to listen on", highest+n)
	}
	for range tries {
		base := lowest + rand.IntN(highest-lowest)
		if allFree(base, n) {
			return base, nil
		}
	}
	return 0, errors.New("no free ports found")
}

func allFree(base, n int) bool {
	for port := base; port < base+n; port++ {
		l, err := net.Listen("tcp", Addr(port))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}

// lowestEphemeral is the first port that the kernel gives to outgoing connections.
func lowestEphemeral() int {
	const linuxDefault = 32768
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return linuxDefault
	}
	low, err := strconv.Atoi(strings.Fields(string(data))[0])
	if err != nil {
		return linuxDefault
	}
	return low
}

// Addr is the loopback address with that port.
func Addr(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
