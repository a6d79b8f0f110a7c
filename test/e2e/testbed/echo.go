package testbed

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
)

// Calls are what a workload's program is told to do.
type Calls struct {
	URL     string // xds:///HOST:PORT as the mesh says, grpc://IP:PORT in plaintext
	Count   int    // 0 is one
	QPS     int    // 0 is as quickly as it goes
	New     bool   // a connection for each call
	Timeout time.Duration
}

// encode writes istio.io/istio/pkg/test/echo/proto.ForwardEchoRequest. Its package would bring all of Istio along.
func (c *Calls) encode() []byte {
	const count, qps, timeoutMicros, url, message, newConnection = 1, 2, 3, 4, 6, 22
	number := func(b []byte, field protowire.Number, value int) []byte {
		return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), uint64(value))
	}
	text := func(b []byte, field protowire.Number, value string) []byte {
		return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), value)
	}
	timeout := c.Timeout
	if timeout == 0 {
		timeout = 10 * time.Second
	}
	b := number(nil, count, max(1, c.Count))
	b = number(b, qps, c.QPS)
	b = number(b, timeoutMicros, int(timeout.Microseconds()))
	b = text(b, url, c.URL)
	b = text(b, message, "hello")
	if c.New {
		b = number(b, newConnection, 1)
	}
	return b
}

// Call has the workload's program make the calls, and returns an error when one of them failed.
func (w *Workload) Call(ctx context.Context, calls Calls) error {
	connection, err := grpc.NewClient("passthrough:///"+Addr(w.control), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("connect to the program: %w", err)
	}
	defer connection.Close()
	request, answer := calls.encode(), []byte(nil)
	return connection.Invoke(ctx, "/proto.EchoTestService/ForwardEcho", &request, &answer, grpc.ForceCodec(raw{}))
}

// raw is a codec of messages that are encoded already.
type raw struct{}

// Marshal returns the bytes.
func (raw) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }

// Unmarshal keeps the bytes.
func (raw) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = data
	return nil
}

// Name is that of the encoding that the bytes are in.
func (raw) Name() string { return "proto" }
