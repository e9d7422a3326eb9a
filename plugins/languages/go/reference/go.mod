module reference

go 1.24

require waypost.local/waypost v0.0.0

replace waypost.local/waypost => ../sdk
