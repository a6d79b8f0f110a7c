package caservice

// EncodePEM is encodePEM.
func EncodePEM(der []byte) string { return encodePEM(der) }
