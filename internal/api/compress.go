package api

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// compressFrom is the size in bytes from which an answer is worth compressing: below, it fits into few packets anyhow.
const compressFrom = 8 << 10

// compressed returns a large answer in gzip for a client that reads that, or nil. Answers with tags are left as they
// are: a tag is that of one sequence of bytes (RFC 9110 section 8.8.3.3). So are answers to anything but questions: no
// secret is compressed together with what somebody else has written (BREACH).
func (s *Server) compressed(c *requestContext, body []byte) ([]byte, error) {
	_, tagged := c.Operation().Metadata[tagExtension]
	if tagged || c.Operation().Method != http.MethodGet || c.status != http.StatusOK {
		return nil, nil
	}
	c.AppendHeader("Vary", "Accept-Encoding")
	if len(body) < compressFrom || !readsGzip(c.Header("Accept-Encoding")) {
		return nil, nil
	}
	writer, ok := s.compressors.Get().(*gzip.Writer)
	if !ok {
		var err error
		if writer, err = gzip.NewWriterLevel(nil, gzip.BestSpeed); err != nil {
			return nil, fmt.Errorf("make compressor: %w", err)
		}
	}
	defer s.compressors.Put(writer)
	var out bytes.Buffer
	writer.Reset(&out)
	if _, err := writer.Write(body); err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	if err := writer.Close(); err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	return out.Bytes(), nil
}

// readsGzip reads an Accept-Encoding header (RFC 9110 section 12.5.3).
func readsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		coding, parameters, _ := strings.Cut(part, ";")
		if coding = strings.TrimSpace(coding); !strings.EqualFold(coding, "gzip") && coding != "*" {
			continue
		}
		weight, given := strings.CutPrefix(strings.TrimSpace(parameters), "q=")
		q, err := strconv.ParseFloat(weight, 64)
		return !given || err == nil && q > 0
	}
	return false
}
