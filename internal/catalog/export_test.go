package catalog

// What tests of coverage ask for.
var (
	CoversGlob   = coversGlob
	CoversSPIFFE = coversSPIFFE
	CoversDNS    = coversDNS
	CoversPrefix = coversPrefix
	NewKey       = newKey
)
